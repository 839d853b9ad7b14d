//! Where the instances of a service are: URLs, and names that are looked up again and again.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use http::Uri;
use tokio::sync::watch;

use crate::Lifecycle;

/// How often names are looked up.
const REFRESH: Duration = Duration::from_secs(5);

/// The instances of a service, as URLs of one address each. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory {
    instances: watch::Receiver<BTreeSet<String>>,
}

impl Directory {
    /// Reads a comma-separated list of URLs such as `http://127.0.0.1:50051` or `https://chat.internal:50051`. A name
    /// stands for all of its addresses, and is looked up again every five seconds; while it cannot be, what was known
    /// stays. With `https`, the certificate must be for the name all the same.
    ///
    /// # Errors
    /// What is wrong with an entry.
    pub fn new(list: &str, lifecycle: &Lifecycle) -> Result<Self, String> {
        let entries = read(list)?;
        let fixed = entries.iter().filter(|entry| !entry.is_name()).map(Instance::url).collect();
        let (sender, instances) = watch::channel(fixed);
        if entries.iter().any(Instance::is_name) {
            let stopping = lifecycle.clone();
            lifecycle.spawn(async move {
                loop {
                    look_up(&entries, &sender).await;
                    tokio::select! {
                        () = tokio::time::sleep(REFRESH) => {}
                        () = stopping.drained() => return,
                    }
                }
            });
        } else {
            // Nothing changes any more; the receivers keep what they have.
            drop(sender);
        }
        Ok(Self { instances })
    }

    /// The instances that are known now.
    #[must_use]
    pub fn now(&self) -> BTreeSet<String> {
        self.instances.borrow().clone()
    }

    /// Completes with the instances when they are others than before; never when they will not change.
    pub async fn changed(&mut self) -> BTreeSet<String> {
        match self.instances.changed().await {
            Ok(()) => self.instances.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        }
    }
}

/// What is wrong with a list of instances, if something is.
#[must_use]
pub fn mistake(list: &str) -> Option<String> {
    read(list).err()
}

/// Where one instance is, or several are, and how it is called.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    is_tls: bool,
    /// What its certificate must be for, when that is not the host.
    name: Option<String>,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
}

impl Instance {
    /// Reads what [`Instance::url`] wrote.
    pub(crate) fn read(url: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?}: an instance is http://host:port; several are separated by commas");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (Some(scheme @ ("http" | "https")), Some(authority), Some(port), "/" | "") =
            (uri.scheme_str(), uri.authority(), uri.port_u16(), uri.path())
        else {
            return Err(wrong());
        };
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = authority.as_str().rsplit_once('@').map(|(name, _)| name.to_owned());
        if uri.query().is_some() || bare.is_empty() {
            return Err(wrong());
        }
        Ok(Self { is_tls: scheme == "https", name, host: bare.to_owned(), port })
    }

    /// As a text that is different for each instance: an address of a name is `https://name@address:port`.
    fn url(&self) -> String {
        match &self.name {
            Some(name) => format!("{}://{name}@{}", self.scheme(), self.address()),
            None => self.origin(),
        }
    }

    /// As it is told in requests.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}:{}", self.scheme(), bracketed(self.name()), self.port)
    }

    /// `host:port`
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// What its certificate must be for.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.host)
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Whether it is a name that has to be looked up.
    fn is_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }

    /// The instance at one of the addresses of the name.
    fn at(&self, address: IpAddr) -> Self {
        let name = self.is_tls.then(|| self.name().to_owned());
        Self { is_tls: self.is_tls, name, host: address.to_string(), port: self.port }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn read(list: &str) -> Result<Vec<Instance>, String> {
    list.split(',')
        .map(str::trim)
        .map(|entry| match Instance::read(entry) {
            // It would be taken for something secret, and shown in logs.
            Ok(instance) if instance.name.is_some() => Err(format!("{}: no user in the URL", instance.address())),
            read => read,
        })
        .collect()
}

async fn look_up(entries: &[Instance], sender: &watch::Sender<BTreeSet<String>>) {
    let mut found = BTreeSet::new();
    for entry in entries {
        if !entry.is_name() {
            found.insert(entry.url());
            continue;
        }
        match tokio::net::lookup_host((entry.host.as_str(), entry.port)).await {
            Ok(addresses) => found.extend(addresses.map(|address| entry.at(address.ip()).url())),
            Err(error) => {
                tracing::warn!(host = entry.host, %error, "a name of a service cannot be looked up");
                return;
            }
        }
    }
    sender.send_if_modified(|known| {
        let is_new = *known != found;
        if is_new {
            *known = found;
        }
        is_new
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_instance() {
        for right in
            ["http://127.0.0.1:50051", "http://[::1]:1, http://chat.internal:2", "https://chat.example.com:443/"]
        {
            assert_eq!(mistake(right), None, "{right}");
        }
        for wrong in [
            "",
            "chat:50051",
            "http://chat",
            "ftp://chat:1",
            "http://a:1,,http://b:2",
            "http://a:1/path",
            "https://u@a:1",
        ] {
            assert!(mistake(wrong).is_some(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_name_is_all_of_its_addresses_and_an_address_is_itself() {
        let lifecycle = Lifecycle::new();
        let mut directory = Directory::new("http://localhost:7, http://127.0.0.2:8", &lifecycle).expect("right");
        while !directory.now().contains("http://127.0.0.1:7") {
            directory.changed().await;
        }
        assert!(directory.now().contains("http://127.0.0.2:8"));
        lifecycle.drain();
    }

    #[tokio::test]
    async fn an_address_of_a_name_keeps_the_name_for_its_certificate() {
        let lifecycle = Lifecycle::new();
        let mut directory = Directory::new("https://localhost:7, https://[::1]:8", &lifecycle).expect("right");
        while !directory.now().contains("https://localhost@127.0.0.1:7") {
            directory.changed().await;
        }
        assert!(directory.now().contains("https://[::1]:8"));
        lifecycle.drain();
        for (url, name, address, origin) in [
            ("https://localhost@127.0.0.1:7", "localhost", "127.0.0.1:7", "https://localhost:7"),
            ("https://chat@[::1]:7", "chat", "[::1]:7", "https://chat:7"),
            ("https://[::1]:8", "::1", "[::1]:8", "https://[::1]:8"),
            ("https://chat.internal:9/", "chat.internal", "chat.internal:9", "https://chat.internal:9"),
        ] {
            let instance = Instance::read(url).expect("right");
            let read = (instance.name(), instance.address(), instance.origin());
            assert_eq!(read, (name, address.to_owned(), origin.to_owned()), "{url}");
        }
    }
}

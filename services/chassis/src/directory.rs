//! Where the instances of a service are: URLs, and names that are looked up again and again.

use std::{collections::BTreeSet, time::Duration};

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
    /// Reads a comma-separated list of URLs such as `http://127.0.0.1:50051` or `http://chat.internal:50051`. A name
    /// stands for all of its addresses, and is looked up again every five seconds; while it cannot be, what was known
    /// stays.
    ///
    /// # Errors
    /// What is wrong with an entry.
    pub fn new(list: &str, lifecycle: &Lifecycle) -> Result<Self, String> {
        let entries = read(list)?;
        let fixed = entries.iter().filter(|entry| !entry.is_name).map(|entry| entry.url(&entry.host)).collect();
        let (sender, instances) = watch::channel(fixed);
        if entries.iter().any(|entry| entry.is_name) {
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

struct Entry {
    scheme: String,
    host: String,
    port: u16,
    /// Not an address.
    is_name: bool,
}

impl Entry {
    fn url(&self, host: &str) -> String {
        format!("{}://{host}:{}", self.scheme, self.port)
    }
}

fn read(list: &str) -> Result<Vec<Entry>, String> {
    let entries: Vec<Entry> = list.split(',').map(|entry| read_one(entry.trim())).collect::<Result<_, _>>()?;
    if entries.is_empty() { Err("at least one URL".to_owned()) } else { Ok(entries) }
}

fn read_one(entry: &str) -> Result<Entry, String> {
    let wrong = || format!("{entry:?}: an instance is http://host:port; several are separated by commas");
    let uri: Uri = entry.parse().map_err(|_| wrong())?;
    let (Some(scheme @ ("http" | "https")), Some(host), Some(port), "/" | "") =
        (uri.scheme_str(), uri.host(), uri.port_u16(), uri.path())
    else {
        return Err(wrong());
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // A certificate is for the name, so the name stays where there is TLS.
    let is_name = bare.parse::<std::net::IpAddr>().is_err() && scheme == "http";
    Ok(Entry { scheme: scheme.to_owned(), host: host.to_owned(), port, is_name })
}

async fn look_up(entries: &[Entry], sender: &watch::Sender<BTreeSet<String>>) {
    let mut found = BTreeSet::new();
    for entry in entries {
        if !entry.is_name {
            found.insert(entry.url(&entry.host));
            continue;
        }
        match tokio::net::lookup_host((entry.host.as_str(), entry.port)).await {
            Ok(addresses) => found.extend(addresses.map(|address| format!("{}://{address}", entry.scheme))),
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
        for wrong in ["", "chat:50051", "http://chat", "ftp://chat:1", "http://a:1,,http://b:2", "http://a:1/path"] {
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
}

//! TLS of our listeners and of our calls: rustls with ring, certificates read again when their files change.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
        client::{
            Resumption,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{self, CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
        server::{NoServerSessionStorage, WebPkiClientVerifier},
    },
    server,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    Lifecycle,
    reload::{Files, Reloaded},
};

/// How long a caller has to finish its handshake.
const GRPC_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Callers whose handshake is under way; who comes beyond waits to be accepted.
const GRPC_HANDSHAKES_MAX: usize = 1_024;
/// After an error that is not the caller's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) const HTTP2: &[u8] = b"h2";
pub(crate) const HTTP1: &[u8] = b"http/1.1";

/// An accepted connection.
pub type TlsStream = server::TlsStream<TcpStream>;

/// `[edge.tls]`: the certificate of a listener for everybody.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublicTlsConfig {
    /// The certificate and those between it and its authority, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
}

/// `[grpc.tls]`: the certificate of a listener for services.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTlsConfig {
    /// The certificate and those between it and its authority, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The authorities of callers, PEM: when given, each caller must show a certificate of theirs.
    pub client_ca_file: PathBuf,
}

/// `[services.tls]`: for calls to `https://` URLs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientTlsConfig {
    /// The authorities of services, PEM; the system's when not given.
    pub ca_file: PathBuf,
    /// The certificate that is shown to services, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
}

impl PublicTlsConfig {
    /// Whether there is no certificate: the listener is plain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !given(&self.certificate_file)
    }

    /// What is wrong with it, as the section `section`.
    #[must_use]
    pub fn mistakes(&self, section: &str) -> Option<String> {
        half(section, &self.certificate_file, &self.key_file)
    }
}

impl ServerTlsConfig {
    /// Whether there is no certificate: the listener is plain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !given(&self.certificate_file)
    }

    /// What is wrong with it, as the section `section`.
    #[must_use]
    pub fn mistakes(&self, section: &str) -> Option<String> {
        half(section, &self.certificate_file, &self.key_file).or_else(|| {
            (given(&self.client_ca_file) && !given(&self.certificate_file))
                .then(|| format!("{section}.client_ca_file: only with {section}.certificate_file"))
        })
    }
}

impl ClientTlsConfig {
    /// What is wrong with it, as the section `section`.
    #[must_use]
    pub fn mistakes(&self, section: &str) -> Option<String> {
        half(section, &self.certificate_file, &self.key_file)
    }
}

fn given(file: &Path) -> bool {
    !file.as_os_str().is_empty()
}

fn half(section: &str, certificate_file: &Path, key_file: &Path) -> Option<String> {
    (given(certificate_file) != given(key_file))
        .then(|| format!("{section}.certificate_file, {section}.key_file: both or neither"))
}

/// What a listener shows, and asks for. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    config: Reloaded<ServerConfig>,
}

impl ServerTls {
    /// For browsers and other clients by HTTP/1.1; `None` when no certificate is configured.
    ///
    /// # Errors
    /// What is wrong with a file, with its setting.
    pub fn public(config: &PublicTlsConfig, lifecycle: &Lifecycle) -> Result<Option<Self>, String> {
        if config.is_empty() {
            return Ok(None);
        }
        let config = config.clone();
        let make = move |files: &mut Files| {
            let mut made = server_config("edge.tls", &config.certificate_file, &config.key_file, None, files)?;
            made.alpn_protocols = vec![HTTP1.to_vec()];
            // Whoever comes back soon does half of the work; what it needs for that, it keeps itself.
            made.ticketer = ring::Ticketer::new().map_err(|error| format!("edge.tls: {error}"))?;
            made.send_tls13_tickets = 1;
            Ok(made)
        };
        Ok(Some(Self { config: Reloaded::new("edge.tls", make, lifecycle)? }))
    }

    /// For services by gRPC; `None` when no certificate is configured.
    ///
    /// # Errors
    /// What is wrong with a file, with its setting.
    pub fn grpc(config: &ServerTlsConfig, lifecycle: &Lifecycle) -> Result<Option<Self>, String> {
        if config.is_empty() {
            return Ok(None);
        }
        let config = config.clone();
        let make = move |files: &mut Files| {
            let client_ca = given(&config.client_ca_file).then_some(config.client_ca_file.as_path());
            let mut made = server_config("grpc.tls", &config.certificate_file, &config.key_file, client_ca, files)?;
            made.alpn_protocols = vec![HTTP2.to_vec()];
            // Connections are few and long, and each shows its certificate anew.
            made.send_tls13_tickets = 0;
            Ok(made)
        };
        Ok(Some(Self { config: Reloaded::new("grpc.tls", make, lifecycle)? }))
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// When it fails, or takes longer than `within`.
    pub async fn accept(&self, stream: TcpStream, within: Duration) -> io::Result<TlsStream> {
        timeout(within, TlsAcceptor::from(self.config.now()).accept(stream)).await?
    }

    /// Accepts connections until the process drains, with handshakes side by side.
    pub(crate) fn incoming(
        self,
        listener: TcpListener,
        lifecycle: &Lifecycle,
    ) -> ReceiverStream<io::Result<TlsStream>> {
        let (sender, accepted) = mpsc::channel(1);
        let handshakes = Arc::new(Semaphore::new(GRPC_HANDSHAKES_MAX));
        let draining = lifecycle.clone();
        lifecycle.spawn(async move {
            let next = async || match handshakes.clone().acquire_owned().await {
                Ok(place) => listener.accept().await.map(|(stream, _)| (stream, place)),
                Err(closed) => Err(io::Error::other(closed)),
            };
            loop {
                let (stream, place) = tokio::select! {
                    accepted = next() => match accepted {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a connection");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                            continue;
                        }
                    },
                    () = draining.drained() => return,
                };
                let (tls, sender) = (self.clone(), sender.clone());
                tokio::spawn(async move {
                    match tls.accept(stream, GRPC_HANDSHAKE_TIMEOUT).await {
                        // The server has ended when it is not taken.
                        Ok(stream) => _ = sender.send(Ok(stream)).await,
                        Err(error) => tracing::debug!(%error, "a TLS handshake of a caller failed"),
                    }
                    drop(place);
                });
            }
        });
        ReceiverStream::new(accepted)
    }
}

/// Whom a call trusts, and what it shows. Cheap to clone. The default trusts the system's authorities and shows nothing.
#[derive(Clone, Default)]
pub struct ClientTls {
    config: Option<Reloaded<ClientConfig>>,
}

impl ClientTls {
    /// Reads the files of a configuration.
    ///
    /// # Errors
    /// What is wrong with a file, with its setting.
    pub fn new(config: &ClientTlsConfig, lifecycle: &Lifecycle) -> Result<Self, String> {
        if !given(&config.ca_file) && !given(&config.certificate_file) {
            return Ok(Self::default());
        }
        let config = config.clone();
        let make = move |files: &mut Files| client_config(&config, SERVICES_CA, files);
        Ok(Self { config: Some(Reloaded::new("services.tls", make, lifecycle)?) })
    }

    /// Trusts the authorities of a file, which a setting names; the system's when there is none.
    ///
    /// # Errors
    /// What is wrong with the file, with its setting.
    pub fn trusting(setting: &'static str, ca_file: &Path, lifecycle: &Lifecycle) -> Result<Self, String> {
        if !given(ca_file) {
            return Ok(Self::default());
        }
        let config = ClientTlsConfig { ca_file: ca_file.to_owned(), ..ClientTlsConfig::default() };
        let make = move |files: &mut Files| client_config(&config, setting, files);
        Ok(Self { config: Some(Reloaded::new(setting, make, lifecycle)?) })
    }

    /// Whether anybody can be trusted.
    ///
    /// # Errors
    /// When the system has no authorities, and none are configured.
    pub fn check(&self) -> Result<(), String> {
        self.now().map(|_| ())
    }

    fn now(&self) -> Result<Arc<ClientConfig>, String> {
        static BY_SYSTEM: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
        match &self.config {
            Some(config) => Ok(config.now()),
            None => BY_SYSTEM
                .get_or_init(|| {
                    client_config(&ClientTlsConfig::default(), SERVICES_CA, &mut Files::default()).map(Arc::new)
                })
                .clone(),
        }
    }

    /// Connects to a server for HTTP/2, and makes sure that it has the name.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        name: ServerName<'static>,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let config = self.now().map_err(io::Error::other)?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(HTTP2) {
            Ok(stream)
        } else {
            Err(io::Error::other("the server speaks TLS, but not HTTP/2"))
        }
    }
}

/// The one provider of cryptography in the program; a default that others might install is not asked.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server_config(
    section: &str,
    certificate_file: &Path,
    key_file: &Path,
    client_ca_file: Option<&Path>,
    files: &mut Files,
) -> Result<ServerConfig, String> {
    let (chain, key) = identity(section, certificate_file, key_file, files)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("{section}: {error}"))?;
    let builder = match client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let setting = format!("{section}.client_ca_file");
            let roots = Arc::new(authorities(&setting, file, files)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| format!("{setting}: {}: {error}", file.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| mismatch(section, certificate_file, key_file, &error))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

const SERVICES_CA: &str = "services.tls.ca_file";

fn client_config(config: &ClientTlsConfig, ca_setting: &str, files: &mut Files) -> Result<ClientConfig, String> {
    let section = "services.tls";
    let roots = if given(&config.ca_file) {
        authorities(ca_setting, &config.ca_file, files)?
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(format!("{ca_setting}: must be given, because the system has no authorities"));
        }
        roots
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("{section}: {error}"))?
        .with_root_certificates(roots);
    let mut made = if given(&config.certificate_file) {
        let (chain, key) = identity(section, &config.certificate_file, &config.key_file, files)?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| mismatch(section, &config.certificate_file, &config.key_file, &error))?
    } else {
        builder.with_no_client_auth()
    };
    made.resumption = Resumption::disabled();
    made.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(made)
}

/// How a health check calls, which takes any certificate; see [`crate::health`].
pub(crate) fn asking_config(shown: &ClientTlsConfig, protocol: &[u8]) -> Result<ClientConfig, String> {
    let section = "services.tls";
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("{section}: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())));
    let mut made = if given(&shown.certificate_file) {
        let (chain, key) = identity(section, &shown.certificate_file, &shown.key_file, &mut Files::default())?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| mismatch(section, &shown.certificate_file, &shown.key_file, &error))?
    } else {
        builder.with_no_client_auth()
    };
    made.resumption = Resumption::disabled();
    made.alpn_protocols = vec![protocol.to_vec()];
    Ok(made)
}

/// Whoever holds the key of the certificate that it shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn mismatch(section: &str, certificate_file: &Path, key_file: &Path, error: &rustls::Error) -> String {
    format!(
        "{section}.certificate_file, {section}.key_file: {} with {}: {error}",
        certificate_file.display(),
        key_file.display()
    )
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate and its key. Both files are read in any case, so that the change of either is noticed.
fn identity(section: &str, certificate_file: &Path, key_file: &Path, files: &mut Files) -> Result<Identity, String> {
    let chain = certificates(&format!("{section}.certificate_file"), certificate_file, files);
    let key = files.read(key_file).map_err(|error| format!("{section}.key_file: {error}")).and_then(|bytes| {
        PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|_| format!("{section}.key_file: {}: no private key in PEM", key_file.display()))
    });
    match (chain, key) {
        (Ok(chain), Ok(key)) => Ok((chain, key)),
        (Err(chain), Err(key)) => Err(format!("{chain}; {key}")),
        (Err(wrong), _) | (_, Err(wrong)) => Err(wrong),
    }
}

fn authorities(setting: &str, file: &Path, files: &mut Files) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, file, files)? {
        roots.add(certificate).map_err(|error| format!("{setting}: {}: {error}", file.display()))?;
    }
    Ok(roots)
}

fn certificates(setting: &str, file: &Path, files: &mut Files) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = files.read(file).map_err(|error| format!("{setting}: {error}"))?;
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("{setting}: {}: no certificate in PEM", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

    use super::*;

    #[test]
    fn half_a_section_is_a_mistake() {
        let file = PathBuf::from("x.pem");
        let certificate = ServerTlsConfig { certificate_file: file.clone(), ..ServerTlsConfig::default() };
        assert!(certificate.mistakes("grpc.tls").is_some_and(|told| told.contains("grpc.tls.key_file")));
        let authority = ServerTlsConfig { client_ca_file: file.clone(), ..ServerTlsConfig::default() };
        assert!(authority.mistakes("grpc.tls").is_some_and(|told| told.contains("grpc.tls.client_ca_file")));
        let key = PublicTlsConfig { key_file: file.clone(), ..PublicTlsConfig::default() };
        assert!(key.mistakes("edge.tls").is_some());
        let trust = ClientTlsConfig { ca_file: file, ..ClientTlsConfig::default() };
        assert_eq!(trust.mistakes("services.tls"), None);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_with_its_setting() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let made = |name: &str| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = rcgen::CertificateParams::new([name.to_owned()]).expect("a name").self_signed(&key);
            let pem = |label: &str, der: &[u8]| {
                format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
            };
            let certificate = pem("CERTIFICATE", certificate.expect("a certificate").der().as_ref());
            (certificate, pem("PRIVATE KEY", key.serialized_der()))
        };
        let ((certificate, key), (_, other_key)) = (made("a.internal"), made("b.internal"));
        fs::write(at("a.pem"), certificate)?;
        fs::write(at("a.key"), key)?;
        fs::write(at("b.key"), other_key)?;
        fs::write(at("text"), "text")?;
        for (certificate, key, client_ca, told) in [
            ("none", "a.key", "", "grpc.tls.certificate_file: "),
            ("text", "a.key", "", "no certificate in PEM"),
            ("a.pem", "text", "", "no private key in PEM"),
            ("a.pem", "b.key", "", "b.key"),
            ("a.pem", "a.key", "text", "grpc.tls.client_ca_file: "),
            ("a.pem", "a.key", "a.pem", ""),
            ("a.pem", "a.key", "", ""),
        ] {
            let config = ServerTlsConfig {
                certificate_file: at(certificate),
                key_file: at(key),
                client_ca_file: if client_ca.is_empty() { PathBuf::new() } else { at(client_ca) },
            };
            let wrong = ServerTls::grpc(&config, &Lifecycle::new()).err().unwrap_or_default();
            assert_eq!(wrong.is_empty(), told.is_empty(), "{certificate} {key}: {wrong}");
            assert!(wrong.contains(told), "{certificate} {key}: {wrong}");
        }
        Ok(())
    }
}

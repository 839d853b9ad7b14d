//! Public keys in a file, which may change.

use std::{fs::File, io::Read as _, path::Path, sync::Arc, time::Duration};

use jsonwebtoken::{DecodingKey, jwk::Jwk};
use switchboard_chassis::Lifecycle;
use tokio::sync::watch;

use super::{
    Algorithm,
    key::{Key, KeySet, TRIES_MAX},
};

const FILE_BYTES_MAX: usize = 64 * 1024;
/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Reads the keys, now and whenever they change.
///
/// # Errors
/// What is wrong with the file now. Later, what is wrong is logged, and the keys stay as they are.
pub(super) fn watch(
    path: &Path,
    algorithm: Algorithm,
    lifecycle: &Lifecycle,
) -> Result<watch::Receiver<Arc<KeySet>>, String> {
    let mut last = read(path);
    let first = last.clone().and_then(|text| keys(&text, algorithm))?;
    let (current, watched) = watch::channel(Arc::new(first));
    let (path, ended) = (path.to_owned(), lifecycle.clone());
    lifecycle.spawn_server::<String>("keys in a file", async move {
        loop {
            tokio::select! {
                () = ended.drained() => return Ok(()),
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            // A file system may be slow.
            let looked_at = path.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || read(&looked_at)).await else { continue };
            if now == last {
                continue;
            }
            match now.clone().and_then(|text| keys(&text, algorithm)) {
                Ok(keys) => {
                    tracing::info!(file = %path.display(), keys = keys.keys.len(), "the public keys of tokens have changed");
                    current.send_replace(Arc::new(keys));
                }
                Err(wrong) => {
                    tracing::warn!(file = %path.display(), wrong, "the public keys of tokens stay as they were");
                }
            }
            last = now;
        }
    });
    Ok(watched)
}

/// What is in the file.
///
/// # Errors
/// When it cannot be read or is too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() > FILE_BYTES_MAX { Err("it is larger than 64 KiB".to_owned()) } else { Ok(text) }
}

/// The public keys in PEM blocks.
///
/// # Errors
/// What is wrong with which block.
pub(super) fn keys(text: &[u8], algorithm: Algorithm) -> Result<KeySet, String> {
    let blocks = pem::parse_many(text).map_err(|error| format!("it is not PEM: {error}"))?;
    // What cannot be read as a block is passed over as a remark; a key must not be lost like that.
    let begun = text.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
    if blocks.is_empty() {
        return Err("there is no PEM block (-----BEGIN PUBLIC KEY-----) in it".to_owned());
    }
    if blocks.len() != begun {
        return Err(format!("{begun} PEM blocks begin in it, and {} are whole", blocks.len()));
    }
    if blocks.len() > TRIES_MAX {
        return Err(format!("it has more than {TRIES_MAX} keys"));
    }
    let keys: Result<Vec<Key>, String> = (1..)
        .zip(&blocks)
        .map(|(place, block)| key(block, algorithm).map_err(|wrong| format!("PEM block {place} {wrong}")))
        .collect();
    Ok(KeySet::unnamed(keys?))
}

const BEGIN: &[u8] = b"-----BEGIN ";

fn key(block: &pem::Pem, algorithm: Algorithm) -> Result<Key, String> {
    let text = pem::encode(block);
    let text = text.as_bytes();
    let read = match block.tag() {
        "RSA PUBLIC KEY" => DecodingKey::from_rsa_pem(text),
        "PUBLIC KEY" => DecodingKey::from_rsa_pem(text)
            .or_else(|_| DecodingKey::from_ec_pem(text))
            .or_else(|_| DecodingKey::from_ed_pem(text)),
        "CERTIFICATE" => {
            return Err("is a certificate: take the key out of it with `openssl x509 -pubkey -noout`".to_owned());
        }
        private if private.contains("PRIVATE") => {
            return Err("is a private key, which belongs to the issuer alone: take the public one".to_owned());
        }
        other => return Err(format!("is a {other}; PUBLIC KEY or RSA PUBLIC KEY is wanted")),
    };
    let unknown = |_| "is not an RSA, P-256 or Ed25519 key".to_owned();
    let jwk = read.and_then(|key| Jwk::from_decoding_key(&key, None)).map_err(unknown)?;
    let key = Key::public(&jwk.algorithm).map_err(|wrong| format!("is a key that is {wrong}"))?;
    if key.algorithm != algorithm {
        return Err(format!("is a key for {}, and auth.jwt.algorithm is {algorithm}", key.algorithm));
    }
    Ok(key)
}

//! Public keys in a file, which may change.

use std::path::Path;

use jsonwebtoken::{DecodingKey, jwk::Jwk};
use switchboard_chassis::{
    Lifecycle,
    reload::{Files, Reloaded},
};

use super::{
    Algorithm,
    key::{Key, KeySet, TRIES_MAX},
};

const FILE_BYTES_MAX: u64 = 64 << 10;

/// The keys of a file, now and whenever it changes.
///
/// # Errors
/// What is wrong with the file now. Later, what is wrong is logged, and the keys stay as they are.
pub(super) fn watch(path: &Path, algorithm: Algorithm, lifecycle: &Lifecycle) -> Result<Reloaded<KeySet>, String> {
    let path = path.to_owned();
    Reloaded::new("auth.jwt.public_key_file", move |files| read(&path, algorithm, files), lifecycle)
}

/// The keys of a file.
///
/// # Errors
/// With the file's name: when it cannot be read or is too large, or what is wrong with its keys.
pub(super) fn read(path: &Path, algorithm: Algorithm, files: &mut Files) -> Result<KeySet, String> {
    let text = files.read_up_to(path, FILE_BYTES_MAX)?;
    keys(&text, algorithm).map_err(|wrong| format!("{}: {wrong}", path.display()))
}

/// The public keys in PEM blocks.
///
/// # Errors
/// What is wrong with which block.
fn keys(text: &[u8], algorithm: Algorithm) -> Result<KeySet, String> {
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

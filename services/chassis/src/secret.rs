//! Values that must not be printed.

use std::{
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const GENERATED_BYTES: usize = 32;

/// A token, password or key. Prints as `(hidden)`.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether no value was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in a time that does not depend on where the two differ.
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }

    /// This value, or else the one in `file`, which is made with random content and mode 0600 if it does not exist.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is empty.
    pub fn or_generated(self, file: &Path) -> io::Result<Self> {
        if !self.is_empty() {
            return Ok(self);
        }
        if !file.exists() {
            // Whole or not at all, and the first of several processes wins.
            let made = file.with_extension(random_hex()?);
            let mut opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made)?;
            opened.write_all(random_hex()?.as_bytes())?;
            opened.sync_all()?;
            let linked = fs::hard_link(&made, file);
            fs::remove_file(&made)?;
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let value = fs::read_to_string(file)?.trim().to_owned();
        if value.is_empty() {
            return Err(io::Error::other(format!("{} is empty: remove it to have a new one made", file.display())));
        }
        if fs::metadata(file)?.permissions().mode() & 0o077 != 0 {
            tracing::warn!(file = %file.display(), "a secret is readable by others: chmod 600 it");
        }
        Ok(Self(value))
    }
}

/// 256 random bits from the operating system, in hexadecimal.
///
/// # Errors
/// When the operating system has none to give.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0; GENERATED_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex(&bytes))
}

/// What stands for a text that is not to be kept: its SHA-256, in hexadecimal. What could be guessed is not hidden by it.
#[must_use]
pub fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "(hidden)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_stays_and_is_private() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("token");
        let first = Secret::default().or_generated(&file)?;
        let again = Secret::default().or_generated(&file)?;
        assert_eq!(first.expose(), again.expose());
        assert_eq!(first.expose().len(), 64);
        assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
        assert_eq!(format!("{first:?}"), "(hidden)");
        Ok(())
    }

    #[test]
    fn a_given_secret_makes_no_file() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("token");
        assert!(Secret::new("given").or_generated(&file)?.matches("given"));
        assert!(!file.exists());
        Ok(())
    }
}

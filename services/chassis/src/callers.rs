//! Who may call our gRPC services besides our own processes, and what each may do.

use std::{collections::BTreeSet, fmt, path::Path, sync::Arc};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::{
    Lifecycle,
    reload::{Files, Reloaded},
};

/// A shorter token can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
const NAME_CHARACTERS_MAX: usize = 64;

/// What a method needs and a caller may. Each includes those before it: who may write may read, and an admin may both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look.
    Read,
    /// Do what users do, in their name: sends, receipts, sessions, positions; notify them.
    Write,
    /// Decide who people are, and erase them.
    Admin,
}

impl Scope {
    /// As it is written in a file of callers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who makes a call: every request that a service sees has one among its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    name: Arc<str>,
}

/// The name of a process that calls itself.
const SELF: &str = "self";
/// The name of whoever shows the token of the deployment, as its processes do among each other.
const DEPLOYMENT: &str = "deployment";

impl Caller {
    /// Its name in the file of callers; `self` for the own process, `deployment` for who shows `grpc.token`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn itself() -> Self {
        Self { name: SELF.into() }
    }

    pub(crate) fn deployment() -> Self {
        Self { name: DEPLOYMENT.into() }
    }
}

/// The callers of a file, as it is now. Cheap to clone; nobody by default.
#[derive(Clone, Default)]
pub struct Callers {
    known: Option<Reloaded<Vec<Known>>>,
}

struct Known {
    caller: Caller,
    token_sha256: [u8; 32],
    /// The highest of its scopes, which includes the others.
    scope: Scope,
}

impl Callers {
    /// Reads a file of callers, and again when it changes; an empty path means nobody.
    ///
    /// # Errors
    /// What is wrong in the file.
    pub fn new(file: &Path, lifecycle: &Lifecycle) -> Result<Self, String> {
        if file.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let file = file.to_owned();
        let make = move |files: &mut Files| read(&file, files).map_err(|wrong| format!("grpc.callers_file: {wrong}"));
        Ok(Self { known: Some(Reloaded::new("grpc.callers_file", make, lifecycle)?) })
    }

    /// Who shows this token, and the highest scope of theirs. Takes the same time wherever the token differs.
    pub(crate) fn find(&self, token: &str) -> Option<(Caller, Scope)> {
        let known = self.known.as_ref()?.now();
        find(&known, token).map(|found| (found.caller.clone(), found.scope))
    }
}

fn find<'a>(known: &'a [Known], token: &str) -> Option<&'a Known> {
    let shown: [u8; 32] = Sha256::digest(token).into();
    // All are compared, whichever is the one.
    let equal: Vec<Choice> = known.iter().map(|known| known.token_sha256.ct_eq(&shown)).collect();
    known.iter().zip(equal).find_map(|(known, equal)| bool::from(equal).then_some(known))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    callers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    scopes: BTreeSet<Scope>,
    token: Option<String>,
    token_file: Option<String>,
    token_sha256: Option<String>,
}

fn read(file: &Path, files: &mut Files) -> Result<Vec<Known>, String> {
    let at = |wrong: &dyn fmt::Display| format!("{}: {wrong}", file.display());
    let text = String::from_utf8(files.read(file)?).map_err(|_| at(&"not UTF-8"))?;
    // Only the reason and the line: the text around them may be a token.
    let document: Document = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        at(&format!("line {line}: {}", error.message()))
    })?;
    let mut known: Vec<Known> = Vec::new();
    for entry in document.callers {
        let one = entry.read(file, files).map_err(|wrong| at(&wrong))?;
        let name = one.caller.name();
        if known.iter().any(|other| other.caller == one.caller) {
            return Err(at(&format!("{name}: is there twice")));
        }
        if let Some(other) = known.iter().find(|other| other.token_sha256 == one.token_sha256) {
            return Err(at(&format!("{name}: has the token of {}", other.caller.name())));
        }
        known.push(one);
    }
    Ok(known)
}

impl Entry {
    fn read(self, beside: &Path, files: &mut Files) -> Result<Known, String> {
        let name = self.name;
        let is_name = (1..=NAME_CHARACTERS_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_name || [SELF, DEPLOYMENT].contains(&name.as_str()) {
            return Err(format!(
                "{name:?}: a name has 1 to {NAME_CHARACTERS_MAX} letters, digits, `-`, `_`, `.`; `{SELF}` and \
                 `{DEPLOYMENT}` are taken"
            ));
        }
        let Some(scope) = self.scopes.last().copied() else {
            return Err(format!("{name}: scopes: at least one of read, write, admin"));
        };
        let token_sha256 = match (self.token, self.token_file, self.token_sha256) {
            (Some(token), None, None) => hash(&token),
            (None, Some(file), None) => {
                // Beside the file that names it.
                let file = beside.parent().unwrap_or(Path::new("")).join(file);
                let bytes = files.read(&file).map_err(|error| format!("{name}: token_file: {error}"))?;
                hash(String::from_utf8_lossy(&bytes).trim())
            }
            (None, None, Some(hex)) => unhex(&hex).ok_or("token_sha256: 64 hexadecimal digits".to_owned()),
            _ => Err("one of token, token_file, token_sha256".to_owned()),
        };
        let token_sha256 = token_sha256.map_err(|wrong| format!("{name}: {wrong}"))?;
        Ok(Known { caller: Caller { name: name.into() }, token_sha256, scope })
    }
}

fn hash(token: &str) -> Result<[u8; 32], String> {
    if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("token: at least {TOKEN_BYTES_MIN} characters, printable ASCII without blanks"));
    }
    Ok(Sha256::digest(token).into())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str) -> Result<Vec<Known>, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("callers.toml");
        fs::write(&file, text).expect("written");
        fs::write(directory.path().join("crm"), "token-in-a-file-of-its-own\n").expect("written");
        read(&file, &mut Files::default())
    }

    #[test]
    fn callers_by_each_kind_of_token() {
        let known = read_text(
            r#"
            [[callers]]
            name = "billing"
            token = "token-of-billing-1"
            scopes = ["write"]
            [[callers]]
            name = "crm"
            token_file = "crm"
            scopes = ["read"]
            [[callers]]
            name = "ops"
            # printf %s token-of-operations | sha256sum
            token_sha256 = "fa2fda70f51ab263710e9f984c986fddbf071d82b7fa04635bcd7a188dfd7920"
            scopes = ["read", "admin"]
            "#,
        )
        .expect("right");
        let found = |token| find(&known, token).map(|known| (known.caller.name(), known.scope));
        assert_eq!(found("token-of-billing-1"), Some(("billing", Scope::Write)));
        assert_eq!(found("token-in-a-file-of-its-own"), Some(("crm", Scope::Read)));
        assert_eq!(found("token-of-operations"), Some(("ops", Scope::Admin)));
        for wrong in ["", "token-of-billing-2", "token-of-billing-", "billing"] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_scope_includes_those_before_it() {
        assert!(Scope::Admin > Scope::Write && Scope::Write > Scope::Read);
    }

    #[test]
    fn what_is_wrong_in_a_file() {
        let one = |fields: &str| format!("[[callers]]\n{fields}");
        let token = r#"token = "0123456789abcdef""#;
        for (text, told) in [
            ("callers = 1".to_owned(), "line 1"),
            (one("name = 'a'"), "scopes"),
            (one(&format!("name = 'a b'\nscopes = ['read']\n{token}")), "a name has"),
            (one(&format!("name = 'self'\nscopes = ['read']\n{token}")), "are taken"),
            (one(&format!("name = 'a'\nscopes = []\n{token}")), "at least one"),
            (one(&format!("name = 'a'\nscopes = ['root']\n{token}")), "root"),
            (one("name = 'a'\nscopes = ['read']"), "one of token"),
            (one("name = 'a'\nscopes = ['read']\ntoken = 'short'"), "16 characters"),
            (one("name = 'a'\nscopes = ['read']\ntoken_sha256 = 'zz'"), "64 hexadecimal"),
            (one("name = 'a'\nscopes = ['read']\ntoken_file = 'none'"), "none"),
            (one(&format!("name = 'a'\nscopes = ['read']\n{token}\ntoken_file = 'crm'")), "one of token"),
            (
                one(&format!(
                    "name = 'a'\nscopes = ['read']\n{token}\n[[callers]]\nname = 'a'\nscopes = ['read']\ntoken = 'another-0123456789'"
                )),
                "twice",
            ),
            (
                one(&format!(
                    "name = 'a'\nscopes = ['read']\n{token}\n[[callers]]\nname = 'b'\nscopes = ['read']\n{token}"
                )),
                "has the token of a",
            ),
        ] {
            let wrong = read_text(&text).err().expect(&text);
            assert!(wrong.contains(told), "{text}: {wrong}");
            assert!(wrong.contains("callers.toml"), "{wrong}");
            assert!(!wrong.contains("0123456789"), "{wrong}");
        }
    }
}

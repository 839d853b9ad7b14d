//! Reads a configuration: defaults, then a TOML file, then `SWITCHBOARD_<SECTION>__<KEY>` variables, then flags.
//!
//! All mistakes are found in one go. A variable's text is read by the type of the setting's default: a list takes
//! commas, a string is taken as it is. Every secret may be given as `<KEY>_FILE` (or `<key>_file` in TOML) instead:
//! the name of a file that holds it.

use std::{fmt, fs, path::Path};

use figment::{
    Figment,
    error::Kind as Wrong,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Value},
};
use serde::{Serialize, de::DeserializeOwned};

const PREFIX: &str = "SWITCHBOARD_";

/// Every mistake in a configuration, one a line.
#[derive(Debug)]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    /// Collects mistakes; `Ok` when there are none.
    ///
    /// # Errors
    /// When there are some.
    pub fn check(mistakes: Vec<String>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self(mistakes)) }
    }

    /// One by one.
    #[must_use]
    pub fn list(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake(s):", self.0.len())?;
        for mistake in &self.0 {
            write!(f, "\n  - {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The variables of this process.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads a configuration.
///
/// `secrets` names the settings that may come from a file, as `auth.jwt.secret`; `flags` are settings given on the
/// command line, with their text.
///
/// # Errors
/// All mistakes at once: a file that cannot be read, unknown settings, values of a wrong type.
pub fn load<T>(
    file: Option<&Path>,
    environment: &[(String, String)],
    flags: &[(&str, String)],
    secrets: &[&str],
) -> Result<T, Mistakes>
where
    T: Default + Serialize + DeserializeOwned,
{
    let mut mistakes = Vec::new();
    let defaults = Value::serialize(T::default()).map_err(|error| Mistakes(vec![error.to_string()]))?;
    let mut settings = Settings {
        defaults,
        secrets,
        figment: Figment::from(Serialized::defaults(T::default())),
        mistakes: &mut mistakes,
    };

    if let Some(file) = file {
        settings.read_file(file);
    }
    for (name, value) in environment {
        let Some(name) = name.strip_prefix(PREFIX) else { continue };
        // Others have names like ours: Kubernetes sets SWITCHBOARD_PORT for a service of that name.
        if !name.contains("__") && settings.defaults.find_ref(&name.to_lowercase()).is_none() {
            continue;
        }
        settings.set_text(&name.to_lowercase().replace("__", "."), value, &format!("{PREFIX}{name}"));
    }
    for (key, value) in flags {
        settings.set_text(key, value, &format!("--{}", key.replace(['.', '_'], "-")));
    }

    let config = settings.extract();
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        _ => Err(Mistakes(mistakes)),
    }
}

struct Settings<'a> {
    defaults: Value,
    secrets: &'a [&'a str],
    figment: Figment,
    mistakes: &'a mut Vec<String>,
}

impl Settings<'_> {
    fn read_file(&mut self, file: &Path) {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => return self.mistakes.push(format!("{}: {error}", file.display())),
        };
        match Toml::from_str::<Dict>(&text) {
            Ok(table) => self.set_table("", table, &file.display().to_string()),
            Err(error) => self.mistakes.push(format!("{}: {error}", file.display())),
        }
    }

    fn set_table(&mut self, prefix: &str, table: Dict, source: &str) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match (value, self.defaults.find_ref(&path)) {
                (Value::Dict(_, inner), Some(Value::Dict(..))) => self.set_table(&path, inner, source),
                (value, Some(_)) => self.set(&path, value),
                (Value::String(_, text), None) => self.set_text(&path, &text, source),
                (_, None) => self.unknown(&path, source),
            }
        }
    }

    fn set_text(&mut self, path: &str, text: &str, source: &str) {
        if let Some(default) = self.defaults.find_ref(path) {
            match typed_like(default, text) {
                Ok(value) => self.set(path, value),
                Err(wanted) => self.mistakes.push(format!("{source}: {wanted} is wanted")),
            }
        } else if let Some(secret) = path.strip_suffix("_file").filter(|secret| self.secrets.contains(secret)) {
            match fs::read_to_string(text) {
                Ok(value) => self.set(secret, Value::from(value.trim_end_matches(['\r', '\n']))),
                Err(error) => self.mistakes.push(format!("{source}: {text}: {error}")),
            }
        } else {
            self.unknown(path, source);
        }
    }

    fn set(&mut self, path: &str, value: Value) {
        self.figment = std::mem::take(&mut self.figment).merge((path, value));
    }

    fn unknown(&mut self, path: &str, source: &str) {
        self.mistakes.push(format!("{source}: there is no setting `{path}`"));
    }

    /// Reads the whole, putting the default in the place of each wrong value in order to find the next one.
    fn extract<T: DeserializeOwned>(mut self) -> Option<T> {
        const TRIES_MAX: usize = 100;
        for _ in 0..TRIES_MAX {
            let error = match self.figment.extract::<T>() {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let path = error.path.join(".");
            self.mistakes.push(format!("{path}: {}", describe(&error.kind)));
            let default = self.defaults.find_ref(&path)?.clone();
            self.set(&path, default);
        }
        None
    }
}

fn describe(wrong: &Wrong) -> String {
    match wrong {
        Wrong::InvalidType(found, wanted) => format!("{wanted} is wanted, not {found}"),
        other => other.to_string(),
    }
}

/// The text as a value of the default's type; the error says what is wanted.
fn typed_like(default: &Value, text: &str) -> Result<Value, &'static str> {
    match default {
        Value::Bool(..) => text.parse::<bool>().map(Value::from).map_err(|_| "true or false"),
        Value::Num(..) => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<f64>().map(Value::from))
            .map_err(|_| "a number"),
        Value::Array(..) => Ok(Value::from(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect::<Vec<_>>(),
        )),
        Value::Dict(..) => Err("a setting inside this section"),
        _ => Ok(Value::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use serde::Deserialize;

    use super::*;
    use crate::Secret;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        data_dir: String,
        edge: Edge,
    }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Edge {
        listen: SocketAddr,
        idle_timeout_s: u64,
        allowed_origins: Vec<String>,
        token: Secret,
    }
    impl Default for Config {
        fn default() -> Self {
            Self { data_dir: "here".to_owned(), edge: Edge::default() }
        }
    }
    impl Default for Edge {
        fn default() -> Self {
            Self {
                listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
                idle_timeout_s: 60,
                allowed_origins: Vec::new(),
                token: Secret::default(),
            }
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flags_win_over_variables_over_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("c.toml");
        fs::write(&file, "data_dir = 'file'\n[edge]\nidle_timeout_s = 5\nlisten = '127.0.0.1:1'").expect("written");
        let environment = variables(&[
            ("SWITCHBOARD_EDGE__LISTEN", "127.0.0.1:2"),
            ("SWITCHBOARD_DATA_DIR", "variable"),
            ("SWITCHBOARD_EDGE__ALLOWED_ORIGINS", "https://a, https://b"),
            ("SWITCHBOARD_EDGE__TOKEN", "0123"),
            ("OTHER", "x"),
            ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
        ]);
        let config: Config =
            load(Some(&file), &environment, &[("data_dir", "flag".to_owned())], &["edge.token"]).expect("right");
        assert_eq!(config.data_dir, "flag");
        assert_eq!(config.edge.listen.port(), 2);
        assert_eq!(config.edge.idle_timeout_s, 5);
        assert_eq!(config.edge.allowed_origins, ["https://a", "https://b"]);
        assert_eq!(config.edge.token.expose(), "0123");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let environment = variables(&[
            ("SWITCHBOARD_EDGE__LISTEN", "nowhere"),
            ("SWITCHBOARD_EDGE__IDLE_TIMEOUT_S", "soon"),
            ("SWITCHBOARD_EDGE__LISTNE", "x"),
            ("SWITCHBOARD_EDGE__TOKEN_FILE", "/does/not/exist"),
        ]);
        let mistakes = load::<Config>(None, &environment, &[], &["edge.token"]).expect_err("wrong").to_string();
        for part in
            ["edge.listen", "IDLE_TIMEOUT_S: a number", "no setting `edge.listne`", "/does/not/exist", "4 mistake"]
        {
            assert!(mistakes.contains(part), "{part} is not in {mistakes}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_a_mistake() {
        assert!(load::<Config>(Some(Path::new("/does/not/exist")), &[], &[], &[]).is_err());
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_newline() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        fs::write(&file, "s3cret\n").expect("written");
        let environment = variables(&[("SWITCHBOARD_EDGE__TOKEN_FILE", file.to_str().expect("text"))]);
        let config: Config = load(None, &environment, &[], &["edge.token"]).expect("right");
        assert_eq!(config.edge.token.expose(), "s3cret");
    }
}

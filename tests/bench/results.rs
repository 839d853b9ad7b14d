//! What was measured, kept in a file, so that a part can be measured again without the rest.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What became of a run: its line, or why there is none.
pub(crate) type Outcome = Result<Value, String>;

/// One scenario or study.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) commit: String,
    /// Each line is the median of so many runs.
    pub(crate) repeat: usize,
    /// By layout.
    pub(crate) systems: BTreeMap<String, Outcome>,
}

impl Measured {
    pub(crate) fn of(&self, layout: &str) -> Option<&Outcome> {
        self.systems.get(layout)
    }
}

/// By name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Results(pub(crate) BTreeMap<String, Measured>);

impl Results {
    /// Those of before; none when there is no file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}

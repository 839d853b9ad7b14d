//! Says in release builds of which commit they are: by git, or in an archive that git made by what it wrote into `commit.txt`.

use std::process::Command;

/// The hash and the day of the commit; git writes them here when it makes an archive.
const ARCHIVED: &str = include_str!("commit.txt");

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=commit.txt");
    #[expect(clippy::disallowed_methods, reason = "cargo tells build scripts by variables; this is no setting of ours")]
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Others are built all the time, and would be built anew after each commit.
    let build = if is_release { commit() } else { "development".to_owned() };
    println!("cargo:rustc-env=SWITCHBOARD_BUILD={build}");
}

fn commit() -> String {
    // Written at each commit and checkout.
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let told =
        if ARCHIVED.contains("Format:") { git(&["log", "-1", "--format=%H %cs"]) } else { Some(ARCHIVED.to_owned()) };
    // The same digits from both: git shortens a hash as the repository's size suggests.
    let told = told.as_deref().and_then(|told| told.trim().split_once(' '));
    told.map_or_else(|| "commit unknown".to_owned(), |(hash, day)| format!("{} {day}", hash.get(..12).unwrap_or(hash)))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

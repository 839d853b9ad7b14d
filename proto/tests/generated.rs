//! The committed code is what the `.proto` files say.

use std::{collections::BTreeMap, env, error::Error, fs, path::Path};

use prost::Message as _;

const PROTOS: [&str; 8] = [
    "switchboard/admin/v1/admin.proto",
    "switchboard/chat/v1/chat.proto",
    "switchboard/edge/v1/edge.proto",
    "switchboard/identity/v1/identity.proto",
    "switchboard/location/v1/location.proto",
    "switchboard/notification/v1/notification.proto",
    "switchboard/presence/v1/presence.proto",
    "switchboard/webhook/v1/webhook.proto",
];

#[test]
fn committed_code_is_what_the_protos_generate() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir()?;

    let descriptors = protox::compile(PROTOS.map(|proto| root.join(proto)), [root])?;
    tonic_prost_build::configure().out_dir(fresh.path()).compile_fds(descriptors.clone())?;
    fs::write(fresh.path().join("descriptors.bin"), descriptors.encode_to_vec())?;

    #[expect(clippy::disallowed_methods, reason = "the switch of this generator, not configuration of the product")]
    let regenerate = env::var_os("SWITCHBOARD_REGENERATE").is_some();
    if regenerate {
        fs::create_dir_all(&committed)?;
        for (name, bytes) in files(fresh.path())? {
            fs::write(committed.join(name), bytes)?;
        }
    }

    let (fresh, committed) = (files(fresh.path())?, files(&committed)?);
    assert_eq!(fresh.keys().collect::<Vec<_>>(), committed.keys().collect::<Vec<_>>(), "other files than committed");
    for (name, bytes) in fresh {
        assert!(
            committed[&name] == bytes,
            "{name} differs: run SWITCHBOARD_REGENERATE=1 cargo test -p switchboard-proto"
        );
    }
    Ok(())
}

fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    fs::read_dir(directory)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))
        })
        .collect()
}

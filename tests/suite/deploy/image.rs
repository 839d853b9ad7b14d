//! The image's command, and how it is asked whether it is well.

use std::process::Command;

use switchboard_tests::process::{self, Process};

use super::{passes, stack::Stack};
use crate::transport::{Files, Use};

/// What `gcr.io/distroless/cc` has, besides nothing.
const LIBRARIES: [&str; 7] =
    ["linux-vdso.so.1", "libgcc_s.so.1", "libm.so.6", "libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux"];

#[test]
fn the_binary_needs_no_library_that_the_base_image_lacks() -> anyhow::Result<()> {
    let needed = passes(Command::new("ldd").arg(process::binary()?))?;
    assert!(needed.contains("libc.so.6"), "{needed}");
    for line in needed.lines() {
        assert!(LIBRARIES.iter().any(|library| line.contains(library)), "{line}");
    }
    Ok(())
}

/// With a root that is read-only but for the data directory, and no role given: everything in one container.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_alone_serves_and_is_told_well() -> anyhow::Result<()> {
    let mut stack = Stack::new()?;
    let own = stack.host("switchboard")?;
    std::fs::create_dir_all(stack.root(own).join("var/lib/switchboard"))?;
    // So long that nobody here would see its end: who has nothing left to do does not wait for it.
    let settings = [("SWITCHBOARD_DRAIN_TIMEOUT_S".to_owned(), "3600".to_owned())];
    let mut container = stack.start(own, None, &settings)?;
    stack.healthy(&mut container).await?;
    let said = container.execute(&["health"])?;
    assert_eq!(said, format!("http://{own}:8000/readyz: ready\ngrpc://{own}:50051: serving"));
    assert_eq!(container.token("701")?.split('.').count(), 3, "by the secret that it made");

    // It ends well when it is told to, and is not well any more.
    container.process.terminate()?;
    assert_eq!(container.process.exit_code().await?, 0);
    let ended = container.execute(&["health"]).expect_err("nobody is there").to_string();
    assert!(ended.contains("nobody listens at http://"), "{ended}");
    // Nothing was written anywhere else.
    for entry in std::fs::read_dir(&container.root)? {
        let name = entry?.file_name();
        assert!(name == "var", "{name:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_asked_by_url_and_by_tls() -> anyhow::Result<()> {
    let files = Files::new()?;
    let authority = files.authority("ca")?;
    files.write("server", authority.issue(&["chat.example.com"], &Use::Server)?)?;
    files.write("caller", authority.issue(&["caller"], &Use::Client)?)?;
    let (edge, grpc) = (process::free_address()?, process::free_address()?);
    let mut settings = vec![
        ("SWITCHBOARD_DATA_DIR", files.text("data")),
        ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
        ("SWITCHBOARD_EDGE__TLS__CERTIFICATE_FILE", files.text("server.pem")),
        ("SWITCHBOARD_EDGE__TLS__KEY_FILE", files.text("server.key")),
        ("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()),
        ("SWITCHBOARD_GRPC__TLS__CERTIFICATE_FILE", files.text("server.pem")),
        ("SWITCHBOARD_GRPC__TLS__KEY_FILE", files.text("server.key")),
        ("SWITCHBOARD_GRPC__TLS__CLIENT_CA_FILE", files.text("ca.pem")),
    ];
    let mut server = Process::start(&["serve"], &settings)?;
    server.listens(edge).await?;

    super::until_it_says_yes(&["health", "--url", &format!("https://{edge}/readyz")], &settings).await?;

    // The gRPC listener asks for a certificate.
    let (code, _, err) = process::run(&["health"], &settings)?;
    assert!(code == 1 && err.contains(&format!("grpcs://{grpc}")), "{err}");
    settings.push(("SWITCHBOARD_SERVICES__TLS__CERTIFICATE_FILE", files.text("caller.pem")));
    settings.push(("SWITCHBOARD_SERVICES__TLS__KEY_FILE", files.text("caller.key")));
    super::until_it_says_yes(&["health"], &settings).await?;

    let (healthz, nobody) = (format!("https://{edge}/healthz"), process::free_address()?);
    for (url, expected) in [
        (healthz.clone(), Ok(format!("{healthz}: ok"))),
        (format!("grpcs://{grpc}"), Ok(format!("grpcs://{grpc}: serving"))),
        (format!("https://{edge}/nothing"), Err("404".to_owned())),
        (format!("http://{edge}/healthz"), Err(format!("http://{edge}/healthz"))),
        (format!("grpc://{nobody}"), Err("nobody listens".to_owned())),
        ("127.0.0.1:8000".to_owned(), Err("is wanted".to_owned())),
    ] {
        let (code, out, err) = process::run(&["health", "--url", &url], &settings)?;
        match expected {
            Ok(said) => assert_eq!((code, out.trim()), (0, said.as_str()), "{url}: {err}"),
            Err(part) => assert!(code != 0 && err.contains(&part), "{url}: {code} {err}"),
        }
    }
    Ok(())
}

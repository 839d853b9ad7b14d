//! The documents, played.

use switchboard_tests::{Backend, Sandbox, transcript};

macro_rules! transcripts {
    ($($name:ident),*) => {$(
        mod $name {
            use super::*;
            const TRANSCRIPT: &str = include_str!(concat!("../transcripts/", stringify!($name), ".txt"));

            #[tokio::test(flavor = "multi_thread")]
            async fn on_sqlite() -> anyhow::Result<()> {
                transcript::play(&Sandbox::start(Backend::Sqlite).await?, TRANSCRIPT).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_postgres() -> anyhow::Result<()> {
                transcript::play(&Sandbox::start(Backend::Postgres).await?, TRANSCRIPT).await
            }
        }
    )*};
}

transcripts!(
    therapy,
    therapy_location,
    clinic,
    mobile,
    mentoring,
    consultation,
    consultation_notifications,
    consultation_presence
);

#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_that_is_not_true_fails() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    let people = r#"+ {"user": {"id": "1", "roles": ["customer"]}}
        + {"user": {"id": "2", "roles": ["therapist"]}}
        a: /ws/chat/1/2/ as 1
        a > {}
    "#;
    for lie in [
        r#"a < {"type": "error"}"#,
        r#"a < {"type": "error", "message": "something else"}"#,
        "a x 4001 not authenticated",
        "GET /healthz\n404 \"ok\"",
    ] {
        assert!(transcript::play(&sandbox, &format!("{people}{lie}")).await.is_err(), "{lie}");
    }
    Ok(())
}

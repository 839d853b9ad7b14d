//! The keys that an issuer publishes (RFC 7517), which change.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::jwk::{Jwk, KeyOperations, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;
use switchboard_chassis::{Error, Kind, Lifecycle};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    Algorithm,
    fetch::{self, Fetcher},
    invalid,
    key::{Key, KeySet, Verdict},
    token::Unchecked,
};

/// More keys in one set are not looked at.
const KEYS_MAX: usize = 64;
/// Tokens with unknown keys have the set fetched at most so often.
const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// After a failure it is tried again, first soon, then less often.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How often is fetched.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) refresh: Duration,
    pub(super) ask: Duration,
}

impl Pace {
    pub(super) fn new(refresh_s: u64) -> Self {
        Self { refresh: Duration::from_secs(refresh_s), ask: ASK_INTERVAL }
    }
}

/// The keys of an issuer, as they were last seen.
pub(super) struct Jwks {
    state: watch::Receiver<State>,
    /// When a token had the set fetched, and how many fetches had ended then.
    asked: Mutex<(Option<Instant>, u64)>,
    wanted: Arc<Notify>,
    pace: Pace,
    /// The only algorithm that is taken; `None` leaves it to each key.
    only: Option<Algorithm>,
}

#[derive(Clone, Default)]
struct State {
    /// `None` before the first one.
    keys: Option<Arc<KeySet>>,
    /// How many fetches have ended, well or not.
    fetches: u64,
    /// Whether the last one ended well.
    is_current: bool,
}

impl Jwks {
    /// Begins to fetch, and goes on with it until the process ends.
    pub(super) fn start(fetcher: Fetcher, only: Option<Algorithm>, pace: Pace, lifecycle: &Lifecycle) -> Self {
        let (states, state) = watch::channel(State::default());
        let wanted = Arc::new(Notify::new());
        let (ended, asks) = (lifecycle.clone(), wanted.clone());
        lifecycle.spawn_server::<String>("keys of the issuer", async move {
            tokio::select! {
                () = ended.drained() => {}
                () = keep_current(&fetcher, only, pace, &states, &asks) => {}
            }
            Ok(())
        });
        // The first fetch is under way as if a token had asked for it.
        Self { state, asked: Mutex::new((None, 0)), wanted, pace, only }
    }

    /// Whether a token was signed by one of the keys. One that may have been signed by a newer one waits for a fetch,
    /// at most as long as that takes.
    ///
    /// # Errors
    /// `TOKEN_INVALID` when not; `KEYS_UNAVAILABLE` when nobody can tell now.
    pub(super) async fn check(&self, token: &Unchecked<'_>) -> Result<(), Error> {
        if token.algorithm.has_shared_secret() || self.only.is_some_and(|only| only != token.algorithm) {
            return Err(invalid("the token's algorithm is not taken"));
        }
        let seen = self.state.borrow().clone();
        match seen.verdict(token) {
            Verdict::Signed => return Ok(()),
            Verdict::Forged => return Err(invalid("the token's signature is wrong")),
            Verdict::Unknown => {}
        }
        let now = self.fetched_after(&seen).await;
        match now.verdict(token) {
            Verdict::Signed => Ok(()),
            Verdict::Unknown if !now.is_current => Err(Error::new(
                Kind::Unavailable,
                "KEYS_UNAVAILABLE",
                "the keys that tokens are checked with cannot be fetched; try again",
            )),
            Verdict::Forged => Err(invalid("the token's signature is wrong")),
            Verdict::Unknown => Err(invalid("the token's key is not known")),
        }
    }

    /// The state after the next fetch, or the one that was seen when it is too early for another.
    async fn fetched_after(&self, seen: &State) -> State {
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let is_under_way = asked.1 == seen.fetches;
            if !is_under_way {
                if asked.0.is_some_and(|at| at.elapsed() < self.pace.ask) {
                    return self.state.borrow().clone();
                }
                *asked = (Some(Instant::now()), seen.fetches);
                self.wanted.notify_one();
            }
        }
        let mut state = self.state.clone();
        let next = state.wait_for(|state| state.fetches > seen.fetches);
        match tokio::time::timeout(2 * fetch::TOTAL_TIMEOUT, next).await {
            Ok(Ok(now)) => now.clone(),
            // The process ends.
            _ => State { is_current: false, ..seen.clone() },
        }
    }
}

impl State {
    fn verdict(&self, token: &Unchecked<'_>) -> Verdict {
        self.keys.as_ref().map_or(Verdict::Unknown, |keys| keys.verdict(token))
    }
}

async fn keep_current(
    fetcher: &Fetcher,
    only: Option<Algorithm>,
    pace: Pace,
    states: &watch::Sender<State>,
    asks: &Notify,
) {
    let mut retry = RETRY_MIN;
    let mut described = None;
    loop {
        let fetched = fetcher.fetch().await.and_then(|text| keys(&text, only));
        let pause = match &fetched {
            Ok(keys) => {
                let now = keys.describe();
                if described.as_ref() != Some(&now) {
                    tracing::info!(keys = now, "the issuer's keys have been fetched");
                    described = Some(now);
                }
                retry = RETRY_MIN;
                pace.refresh
            }
            Err(wrong) => {
                tracing::warn!(wrong, "auth.jwt.jwks_url gives no keys; those that it gave before stay good");
                let pause = retry.min(pace.refresh);
                retry = (2 * retry).min(RETRY_MAX);
                pause
            }
        };
        states.send_modify(|state| {
            state.fetches += 1;
            state.is_current = fetched.is_ok();
            if let Ok(keys) = fetched {
                state.keys = Some(Arc::new(keys));
            }
        });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = asks.notified() => {}
        }
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// The keys of a set that are of use here; others in it are for others.
fn keys(text: &[u8], only: Option<Algorithm>) -> Result<KeySet, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| format!("it is not a JWKS: {error}"))?;
    let mut keys = Vec::new();
    for (place, value) in (1..).zip(document.keys) {
        if keys.len() == KEYS_MAX {
            tracing::warn!("the issuer has more than {KEYS_MAX} keys: the rest is not taken");
            break;
        }
        match key(value) {
            Ok(key) if only.is_none_or(|only| only == key.algorithm) => keys.push(key),
            Ok(key) => tracing::debug!(place, algorithm = key.algorithm.name(), "a key of the issuer is not taken"),
            Err(wrong) => tracing::debug!(place, wrong, "a key of the issuer is not taken"),
        }
    }
    if keys.is_empty() {
        tracing::warn!("the issuer publishes no key that is of use here: no token is good");
    }
    Ok(KeySet { keys, has_names: true })
}

fn key(value: Value) -> Result<Key, &'static str> {
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "not a key")?;
    let common = jwk.common;
    if common.public_key_use.is_some_and(|usage| usage != PublicKeyUse::Signature)
        || common.key_operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify))
    {
        return Err("not for signatures");
    }
    let mut key = Key::public(&jwk.algorithm)?;
    let theirs = jsonwebtoken::Algorithm::from(key.algorithm);
    if common.key_algorithm.is_some_and(|algorithm| algorithm != theirs.into()) {
        return Err("for an algorithm that is not taken");
    }
    key.id = common.key_id;
    Ok(key)
}

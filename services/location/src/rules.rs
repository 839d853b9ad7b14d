//! Who may do what, and what is a position. Pure.

use switchboard_chassis::Micros;
use switchboard_proto::location::v1 as wire;
use switchboard_sessions::check_user_id;

use crate::model::{Pair, Position, Refusal, RefusalReason, Role};

/// The pair of a share.
pub(crate) fn pair(pair: Option<Pair>) -> Result<Pair, Refusal> {
    let pair = pair.ok_or_else(|| Refusal::invalid("pair", "is required"))?;
    check_user_id("pair.customer_id", &pair.customer_id)?;
    check_user_id("pair.therapist_id", &pair.therapist_id)?;
    if pair.customer_id == pair.therapist_id {
        return Err(Refusal::invalid("pair", "the customer and the therapist are the same"));
    }
    Ok(pair)
}

/// What a user is in a share.
pub(crate) fn enter(pair: &Pair, user_id: &str, role: &str) -> Result<Role, Refusal> {
    let own = if user_id == pair.customer_id {
        Some(Role::Customer)
    } else if user_id == pair.therapist_id {
        Some(Role::Therapist)
    } else {
        None
    };
    match (role, own) {
        ("staff" | "admin", _) => Ok(Role::Staff),
        ("", Some(own)) => Ok(own),
        (role, Some(own)) if own.as_str() == role => Ok(own),
        ("" | "customer" | "therapist", _) => {
            Err(Refusal::new(RefusalReason::NotAParticipant, "the user is not this one of the pair"))
        }
        _ => Err(Refusal::invalid("role", "customer, therapist or staff")),
    }
}

/// A position that was reported just now.
pub(crate) fn position(reported: wire::Position, now: Micros) -> Result<Position, Refusal> {
    let wire::Position { latitude, longitude, accuracy_m, heading_deg, at: _ } = reported;
    // Comparisons are false for what is not a number.
    if !(-90.0..=90.0).contains(&latitude) {
        return Err(Refusal::invalid("position.latitude", "must be between -90 and 90"));
    }
    if !(-180.0..=180.0).contains(&longitude) {
        return Err(Refusal::invalid("position.longitude", "must be between -180 and 180"));
    }
    if accuracy_m.is_some_and(|metres| !metres.is_finite() || metres < 0.0) {
        return Err(Refusal::invalid("position.accuracy_m", "must be finite and not negative"));
    }
    if heading_deg.is_some_and(|degrees| !(0.0..=360.0).contains(&degrees)) {
        return Err(Refusal::invalid("position.heading_deg", "must be between 0 and 360"));
    }
    Ok(Position { latitude, longitude, accuracy_m, heading_deg, at: now })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(customer_id: &str, therapist_id: &str) -> Pair {
        Pair { customer_id: customer_id.to_owned(), therapist_id: therapist_id.to_owned() }
    }

    #[test]
    fn who_may_enter() {
        let pair = of("1", "2");
        let enter = |user_id, role| enter(&pair, user_id, role).map_err(|refusal| refusal.reason);
        assert_eq!(enter("1", ""), Ok(Role::Customer));
        assert_eq!(enter("2", "therapist"), Ok(Role::Therapist));
        assert_eq!(enter("3", "staff"), Ok(Role::Staff));
        for (user_id, role) in [("3", ""), ("1", "therapist"), ("2", "customer"), ("3", "therapist")] {
            assert_eq!(enter(user_id, role), Err(RefusalReason::NotAParticipant), "{user_id} as {role}");
        }
        assert_eq!(enter("1", "patient"), Err(RefusalReason::InvalidArgument));
    }

    #[test]
    fn what_is_a_pair() {
        assert_eq!(super::pair(Some(of("1", "2"))), Ok(of("1", "2")));
        for wrong in [None, Some(of("", "2")), Some(of("1", "")), Some(of("1", "1")), Some(of("a\0", "2"))] {
            assert!(super::pair(wrong).is_err());
        }
        assert!(super::pair(Some(of(&"x".repeat(256), "2"))).is_err());
    }

    #[test]
    fn what_is_a_position() {
        let at = |latitude, longitude| wire::Position { latitude, longitude, ..wire::Position::default() };
        for (latitude, longitude) in [(0.0, 0.0), (90.0, -180.0), (-90.0, 180.0)] {
            assert!(position(at(latitude, longitude), 1).is_ok());
        }
        for (latitude, longitude) in
            [(90.1, 0.0), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY), (f64::NEG_INFINITY, 0.0)]
        {
            assert!(position(at(latitude, longitude), 1).is_err(), "{latitude} {longitude}");
        }
        for (accuracy_m, heading_deg) in [
            (Some(-1.0), None),
            (Some(f64::NAN), None),
            (None, Some(-0.1)),
            (None, Some(360.1)),
            (None, Some(f64::NAN)),
        ] {
            assert!(position(wire::Position { accuracy_m, heading_deg, ..at(0.0, 0.0) }, 1).is_err());
        }
    }
}

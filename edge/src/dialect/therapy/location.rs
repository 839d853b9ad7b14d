//! therapy.md, location: `{"latitude": ..., "longitude": ...}` in, `{"type": "location", ...}` out.

use serde::Serialize;
use serde_json::{Map, Value};
use switchboard_proto::location::v1::{Moved, Position, share_request::Action};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::dialect::{Decoded, frame, json, typed_error};

/// Reads a text frame. A customer's position is ignored, as documented.
pub(crate) fn decode(text: &str, is_therapist: bool) -> Decoded<Action> {
    let Ok(frame) = frame::object(text) else {
        return Decoded::Reply(typed_error("the frame must be a JSON object"));
    };
    let position = coordinate(&frame, "latitude", 90.0).and_then(|latitude| {
        let longitude = coordinate(&frame, "longitude", 180.0)?;
        Ok(Position { latitude, longitude, ..Position::default() })
    });
    match position {
        Ok(position) if is_therapist => Decoded::Act(Action::Report(position)),
        Ok(_) => Decoded::Ignore,
        Err(wrong) => Decoded::Reply(typed_error(&wrong)),
    }
}

/// Zero is one.
fn coordinate(frame: &Map<String, Value>, name: &str, most: f64) -> Result<f64, String> {
    match frame.get(name).map(Value::as_f64) {
        Some(Some(degrees)) if degrees.abs() <= most => Ok(degrees),
        Some(Some(_)) => Err(format!("{name} must be between -{most} and {most}")),
        _ => Err(format!("{name} is required and must be a number")),
    }
}

/// Where the therapist is.
pub(crate) fn encode(moved: &Moved) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        latitude: f64,
        longitude: f64,
        therapist_id: &'a str,
    }
    let position = moved.position.unwrap_or_default();
    json(&Out {
        r#type: "location",
        latitude: position.latitude,
        longitude: position.longitude,
        therapist_id: moved.pair.as_ref().map_or("", |pair| &pair.therapist_id),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use switchboard_proto::location::v1::Pair;

    use super::*;
    use crate::dialect::tests::value;

    fn at(latitude: f64, longitude: f64) -> Position {
        Position { latitude, longitude, ..Position::default() }
    }

    #[test]
    fn zero_and_the_edges_of_the_earth_are_places() {
        for (latitude, longitude) in [(0.0, 0.0), (90.0, 180.0), (-90.0, -180.0), (40.7128, -74.006)] {
            let frame = serde_json::json!({ "latitude": latitude, "longitude": longitude }).to_string();
            assert_eq!(decode(&frame, true), Decoded::Act(Action::Report(at(latitude, longitude))));
            assert_eq!(decode(&frame, false), Decoded::Ignore, "a customer's");
        }
        let whole = r#"{"latitude":0,"longitude":0}"#;
        assert_eq!(decode(whole, true), Decoded::Act(Action::Report(at(0.0, 0.0))));
    }

    #[test]
    fn what_is_no_place_is_answered() {
        for bad in [
            "x",
            "[]",
            "{}",
            "null",
            r#"{"latitude":1}"#,
            r#"{"longitude":1}"#,
            r#"{"latitude":null,"longitude":1}"#,
            r#"{"latitude":"1","longitude":1}"#,
            r#"{"latitude":true,"longitude":1}"#,
            r#"{"latitude":90.000001,"longitude":1}"#,
            r#"{"latitude":1,"longitude":-181}"#,
            r#"{"latitude":1e309,"longitude":1}"#,
            r#"{"latitude":NaN,"longitude":1}"#,
            r#"{"message":"hello"}"#,
        ] {
            for is_therapist in [true, false] {
                let Decoded::Reply(reply) = decode(bad, is_therapist) else { panic!("{bad}") };
                assert_eq!(value(&reply)["type"], "error", "{bad}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_place_comes_back_as_it_was_given(latitude in -90.0..=90.0f64, longitude in -180.0..=180.0f64) {
            let frame = serde_json::json!({ "latitude": latitude, "longitude": longitude }).to_string();
            let Decoded::Act(Action::Report(position)) = decode(&frame, true) else { panic!("{frame}") };
            let pair = Pair { customer_id: "1".into(), therapist_id: "2".into() };
            let told = value(&encode(&Moved { pair: Some(pair), position: Some(position) }));
            prop_assert_eq!(told["latitude"].as_f64(), Some(latitude));
            prop_assert_eq!(told["longitude"].as_f64(), Some(longitude));
            prop_assert_eq!(&told["therapist_id"], "2");
        }
    }
}

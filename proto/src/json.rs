//! Between `google.protobuf.Struct` and JSON.

use prost_types::{ListValue, Struct, Value as Wire, value::Kind};
use serde_json::{Map, Number, Value};

/// A whole number above this is not exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A struct as a JSON object. Whole numbers are written without a fraction; what JSON has no number for is null.
#[must_use]
pub fn from_struct(object: Struct) -> Map<String, Value> {
    object.fields.into_iter().map(|(key, value)| (key, from_value(value))).collect()
}

fn from_value(value: Wire) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        #[expect(clippy::cast_possible_truncation, reason = "whole and within what both hold")]
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() <= EXACT => Value::from(value as i64),
        Some(Kind::NumberValue(value)) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::StructValue(value)) => Value::Object(from_struct(value)),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(from_value).collect(),
    }
}

/// A JSON object as a struct.
#[must_use]
pub fn to_struct(object: Map<String, Value>) -> Struct {
    Struct { fields: object.into_iter().map(|(key, value)| (key, to_value(value))).collect() }
}

fn to_value(value: Value) -> Wire {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(to_value).collect() }),
        Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    Wire { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_stays_what_it_is() {
        let text = r#"{"a":1,"b":[true,null,"x",-0.5,{"c":9007199254740992}],"d":1e300}"#;
        let object: Map<String, Value> = serde_json::from_str(text).expect("an object");
        assert_eq!(from_struct(to_struct(object.clone())), object);
    }
}

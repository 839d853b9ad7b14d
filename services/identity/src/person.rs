//! What a user and a device may look like. Pure.

use std::collections::BTreeSet;

use switchboard_chassis::{Error, Kind, Violation};
use switchboard_proto::identity::v1::User;

/// The most characters of an id, a role or a profile id.
const ID_CHARS_MAX: usize = 128;
/// The most characters of a name or an address.
const NAME_CHARS_MAX: usize = 255;
/// The most characters of a device's id.
const DEVICE_ID_CHARS_MAX: usize = 255;
/// The most roles and the most profiles of a user.
const ROLES_MAX: usize = 32;

/// The user with its roles in their one spelling, or every field that is wrong.
///
/// # Errors
/// `INVALID_ARGUMENT` with all violations.
pub(crate) fn checked(mut user: User) -> Result<User, Error> {
    let mut violations = Vec::new();
    let mut check = |field: &str, value: &str, chars_min: usize, chars_max: usize| {
        let chars = value.chars().count();
        if chars < chars_min || chars > chars_max || value.chars().any(char::is_control) {
            violations.push(Violation {
                field: field.to_owned(),
                description: format!("{chars_min} to {chars_max} characters, none of them control characters"),
            });
        }
    };
    check("user.id", &user.id, 1, ID_CHARS_MAX);
    check("user.username", &user.username, 0, NAME_CHARS_MAX);
    check("user.full_name", &user.full_name, 0, NAME_CHARS_MAX);
    check("user.email", &user.email, 0, NAME_CHARS_MAX);
    check("user.profile_id", &user.profile_id, 0, ID_CHARS_MAX);
    check("user.assigned_mentor_id", &user.assigned_mentor_id, 0, ID_CHARS_MAX);
    for role in &user.roles {
        check("user.roles", role, 1, ID_CHARS_MAX);
    }
    for (role, profile) in &user.profiles {
        check("user.profiles", role, 1, ID_CHARS_MAX);
        check("user.profiles", profile, 1, ID_CHARS_MAX);
    }
    if user.roles.len() > ROLES_MAX || user.profiles.len() > ROLES_MAX {
        violations.push(Violation {
            field: "user.roles".to_owned(),
            description: format!("at most {ROLES_MAX} roles and profiles"),
        });
    }
    if !violations.is_empty() {
        let message = format!("{}: {}", violations[0].field, violations[0].description);
        return Err(Error { kind: Kind::Invalid, reason: "INVALID_ARGUMENT", message, violations });
    }
    let roles: BTreeSet<String> = user.roles.iter().map(|role| canonical_role(role)).collect();
    user.roles = roles.into_iter().collect();
    user.profiles = user.profiles.into_iter().map(|(role, id)| (canonical_role(&role), id)).collect();
    Ok(user)
}

/// A role in its one spelling.
pub(crate) fn canonical_role(role: &str) -> String {
    match role.trim().to_lowercase().as_str() {
        "admin" => "staff".to_owned(),
        "provider" => "professional".to_owned(),
        role => role.to_owned(),
    }
}

/// Whether an id can be a user's or a token's.
///
/// # Errors
/// `INVALID_ARGUMENT` for the field.
pub(crate) fn check_id(field: &str, id: &str) -> Result<(), Error> {
    if id.is_empty() || id.chars().count() > ID_CHARS_MAX || id.chars().any(char::is_control) {
        let message = format!("1 to {ID_CHARS_MAX} characters, none of them control characters");
        return Err(Error::invalid(field, message));
    }
    Ok(())
}

/// Whether a device's id can be one.
///
/// # Errors
/// `INVALID_ARGUMENT`.
pub(crate) fn check_device_id(device_id: &str) -> Result<(), Error> {
    let chars = device_id.chars().count();
    if device_id.trim().is_empty() || chars > DEVICE_ID_CHARS_MAX || device_id.chars().any(char::is_control) {
        return Err(Error::invalid(
            "device_id",
            format!("1 to {DEVICE_ID_CHARS_MAX} characters, not all blank, none of them control characters"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_one_spelling() {
        let user = User {
            id: "1".into(),
            roles: ["Admin", "staff", "PROVIDER", "student"].map(String::from).to_vec(),
            ..User::default()
        };
        assert_eq!(checked(user).expect("right").roles, ["professional", "staff", "student"]);
    }

    #[test]
    fn every_wrong_field_is_told() {
        let user = User { id: String::new(), email: "a\0b".into(), full_name: "x".repeat(256), ..User::default() };
        let error = checked(user).expect_err("wrong");
        let fields: Vec<&str> = error.violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["user.id", "user.full_name", "user.email"]);
    }

    #[test]
    fn a_blank_device_id_is_none() {
        assert!(check_device_id("  ").is_err());
        assert!(check_device_id("abc123xyz").is_ok());
    }
}

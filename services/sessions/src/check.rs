//! What every service asks of its input.

use switchboard_chassis::Error;

const USER_ID_CHARS_MAX: usize = 255;

/// Whether something can be the id of a user: not empty, at most 255 characters, none of them NUL, which Postgres does
/// not store.
///
/// # Errors
/// What is wrong with it.
pub fn check_user_id(field: &str, user_id: &str) -> Result<(), Error> {
    if user_id.is_empty() {
        Err(Error::invalid(field, "is required"))
    } else if user_id.chars().nth(USER_ID_CHARS_MAX).is_some() {
        Err(Error::invalid(field, format!("at most {USER_ID_CHARS_MAX} characters")))
    } else if user_id.contains('\0') {
        Err(Error::invalid(field, "must not contain NUL"))
    } else {
        Ok(())
    }
}

//! How lists are asked for.

use crate::Error;

/// How many a page has: as many as are asked for, at most `max`; `default` for 0.
///
/// # Errors
/// When it is negative.
pub fn page_size(asked: i32, default: u32, max: u32) -> Result<u32, Error> {
    match u32::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(max)),
        Err(_) => Err(Error::invalid("page_size", "must not be negative")),
    }
}

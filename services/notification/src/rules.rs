//! What a notification may be, and what may be asked. Pure: no clock, no database, no network.

use std::ops::RangeInclusive;

use switchboard_proto::{
    json,
    notification::v1::{ListNotificationsRequest, NotifyRequest, Read},
};
use switchboard_sessions::check_user_id;
use uuid::Uuid;

use crate::model::{self, Content, Draft, Page, Refusal, Which};

/// Notifications of one call.
pub(crate) const BATCH_NOTIFICATIONS_MAX: usize = 500;
const READ_IDS_MAX: usize = 500;
const TITLE_CHARS: RangeInclusive<usize> = 1..=255;
const MESSAGE_CHARS: RangeInclusive<usize> = 0..=4096;
const TYPE_CHARS: RangeInclusive<usize> = 0..=64;
const REQUEST_ID_CHARS: RangeInclusive<usize> = 0..=128;
const DATA_LEVELS_MAX: usize = 16;
const DATA_BYTES_MAX: usize = 16 << 10;
const TYPE_DEFAULT: &str = "general";
const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 200;

/// Reads a notification that shall be stored.
pub(crate) fn draft(request: NotifyRequest, id: Uuid) -> Result<Draft, Refusal> {
    let NotifyRequest { user_id, title, message, notification_type, data, request_id } = request;
    check_user_id("user_id", &user_id)?;
    check_text("title", &title, TITLE_CHARS)?;
    if title.trim().is_empty() {
        return Err(Refusal::invalid("title", "must say something"));
    }
    check_text("message", &message, MESSAGE_CHARS)?;
    check_text("notification_type", &notification_type, TYPE_CHARS)?;
    check_text("request_id", &request_id, REQUEST_ID_CHARS)?;
    // A NUL inside is escaped in JSON, so it does no harm.
    let data = data.map(|data| serde_json::Value::Object(json::from_struct(data)));
    // Protobuf's decoders stop at 100 levels, of which a struct takes three for one of JSON.
    if data.as_ref().is_some_and(|data| depth(data) > DATA_LEVELS_MAX) {
        return Err(Refusal::invalid("data", "at most 16 levels"));
    }
    let data = data.map(|data| data.to_string()).unwrap_or_default();
    if data.len() > DATA_BYTES_MAX {
        return Err(Refusal::invalid("data", "at most 16 KiB as JSON"));
    }
    let notification_type = if notification_type.is_empty() { TYPE_DEFAULT.to_owned() } else { notification_type };
    Ok(Draft {
        id,
        user_id,
        content: Content { title, message, notification_type, data },
        request_id: Some(request_id).filter(|request_id| !request_id.is_empty()),
    })
}

/// How many levels of objects and lists a value has.
fn depth(value: &serde_json::Value) -> usize {
    let below = match value {
        serde_json::Value::Array(values) => values.iter().map(depth).max(),
        serde_json::Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + below.unwrap_or(0)
}

/// Reads several.
pub(crate) fn drafts(requests: Vec<NotifyRequest>, mut new_id: impl FnMut() -> Uuid) -> Result<Vec<Draft>, Refusal> {
    if requests.len() > BATCH_NOTIFICATIONS_MAX {
        return Err(Refusal::invalid("notifications", "at most 500"));
    }
    let each = requests.into_iter().enumerate().map(|(index, request)| {
        draft(request, new_id())
            .map_err(|refusal| Refusal { message: format!("notifications[{index}].{}", refusal.message), ..refusal })
    });
    each.collect()
}

/// Reads what was read.
pub(crate) fn which(read: &Read) -> Result<Which, Refusal> {
    match (read.all, read.notification_ids.as_slice()) {
        (true, []) => Ok(Which::All),
        (false, ids) if (1..=READ_IDS_MAX).contains(&ids.len()) => {
            let ids: Result<Vec<Uuid>, _> = ids.iter().map(|id| Uuid::try_parse(id)).collect();
            let mut ids = ids.map_err(|_| model::no_notification())?;
            ids.sort_unstable();
            ids.dedup();
            Ok(Which::These(ids))
        }
        _ => Err(Refusal::invalid("notification_ids", "give 1 to 500 notification_ids, or all")),
    }
}

/// Reads which page is asked for.
pub(crate) fn page(request: &ListNotificationsRequest) -> Result<Page, Refusal> {
    let size = match u32::try_from(request.page_size) {
        Ok(0) => PAGE_DEFAULT,
        Ok(size) => size.min(PAGE_MAX),
        Err(_) => return Err(Refusal::invalid("page_size", "must not be negative")),
    };
    let ListNotificationsRequest { from_seq, newest_first, unread_only, .. } = *request;
    Ok(Page { from_seq, newest_first, unread_only, size })
}

fn check_text(field: &str, text: &str, chars: RangeInclusive<usize>) -> Result<(), Refusal> {
    if chars.contains(&text.chars().count()) && !text.contains('\0') {
        return Ok(());
    }
    let (least, most) = chars.into_inner();
    let least = if least == 0 { "at most".to_owned() } else { format!("{least} to") };
    Err(Refusal::invalid(field, &format!("{least} {most} characters, no NUL")))
}

#[cfg(test)]
mod tests;

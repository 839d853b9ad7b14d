//! What the chat and identity services promise over gRPC, on both databases.

use anyhow::Context as _;
use switchboard::config::Role;
use switchboard_chassis::grpc::Peer;
use switchboard_proto::{
    chat::v1::{
        CloseConversationRequest, Conversation, ConversationKind, ConversationNumber, ConversationStatus,
        ConverseRequest, ConverseResponse, EraseUserRequest, GetConversationRequest, Join, Leave,
        ListConversationsRequest, ListMessagesRequest, MessageStatus, MessageType, OpenConversationRequest,
        Participant, Receipt, RefusalReason, Send, SendMessageRequest, Typing, UpdateReceiptsRequest,
        chat_service_client::ChatServiceClient, converse_request::Action, converse_response::Event,
        get_conversation_request, join,
    },
    identity::v1::{
        AuthenticateRequest, BatchGetUsersRequest, CreateSessionRequest, DeactivateDeviceRequest, DeleteSessionRequest,
        DeleteUserRequest, GetUserRequest, ProfileKey, RegisterDeviceRequest, UpsertUserRequest, User,
        authenticate_request::Credential, get_user_request::Key, principal::Subject,
    },
};
use switchboard_tests::{Backend, PATIENCE, Sandbox};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(&Sandbox::start(Backend::Sqlite).await?).await
            })*
        }
        mod on_postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(&Sandbox::start(Backend::Postgres).await?).await
            })*
        }
    };
}

contract!(
    opening_is_get_or_create,
    minted_ids_and_numbers_are_kept,
    openings_at_once_make_one,
    sends_are_repeatable,
    what_is_wrong_is_named,
    messages_are_paged_by_key,
    conversations_are_listed,
    receipts_only_move_forward,
    receipts_of_thousands_come_in_parts,
    a_closed_conversation_can_only_be_read,
    erasing_really_erases,
    a_stream_carries_many_sessions,
    a_half_closed_stream_hears_its_answers,
    joins_are_told_once_per_person,
    users_devices_and_sessions,
);

fn seats(people: &[(&str, &str)]) -> Vec<Participant> {
    people.iter().map(|(id, role)| Participant { user_id: (*id).to_owned(), role: (*role).to_owned() }).collect()
}

fn request(kind: ConversationKind, people: &[(&str, &str)]) -> OpenConversationRequest {
    OpenConversationRequest { kind: kind.into(), participants: seats(people), ..OpenConversationRequest::default() }
}

async fn open(
    chat: &mut ChatServiceClient<Peer>,
    request: OpenConversationRequest,
) -> Result<(Conversation, bool), Status> {
    let opened = chat.open_conversation(request).await?.into_inner();
    Ok((opened.conversation.unwrap_or_default(), opened.created))
}

async fn clinic(chat: &mut ChatServiceClient<Peer>) -> anyhow::Result<String> {
    Ok(open(chat, request(ConversationKind::Clinic, &[("p", "patient"), ("d", "professional")])).await?.0.id)
}

fn text(conversation_id: &str, user_id: &str, content: &str) -> SendMessageRequest {
    SendMessageRequest {
        conversation_id: conversation_id.to_owned(),
        user_id: user_id.to_owned(),
        send: Some(Send { content: content.to_owned(), ..Send::default() }),
    }
}

async fn contents(chat: &mut ChatServiceClient<Peer>, request: ListMessagesRequest) -> Result<Vec<String>, Status> {
    let page = chat.list_messages(request).await?.into_inner();
    Ok(page.messages.into_iter().map(|message| message.content).collect())
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

async fn opening_is_get_or_create(sandbox: &Sandbox) -> anyhow::Result<()> {
    use ConversationKind::{Clinic, Consultation, Mentoring, Mobile, Therapy};
    let mut chat = sandbox.chat()?;
    for (kind, people) in [
        (Therapy, [("1", "customer"), ("2", "therapist")]),
        (Clinic, [("1", "patient"), ("2", "professional")]),
        (Mentoring, [("1", "student"), ("2", "teacher")]),
    ] {
        let (first, created) = open(&mut chat, request(kind, &people)).await?;
        assert!(created);
        assert_eq!(first.number, 1, "numbers begin at 1 in each kind");
        assert_eq!(first.status(), ConversationStatus::Open);
        let mut reversed = people;
        reversed.reverse();
        assert_eq!(open(&mut chat, request(kind, &reversed)).await?, (first, false));
    }
    for (kind, people) in [(Mobile, vec![("d", "device")]), (Consultation, vec![("1", "client"), ("2", "expert")])] {
        let (first, _) = open(&mut chat, request(kind, &people)).await?;
        let (second, created) = open(&mut chat, request(kind, &people)).await?;
        assert!(created);
        assert_ne!(first.id, second.id);
        assert_eq!(second.number, 2);
    }
    Ok(())
}

async fn minted_ids_and_numbers_are_kept(sandbox: &Sandbox) -> anyhow::Result<()> {
    const ID: &str = "550e8400-e29b-41d4-a716-446655440000";
    let mut chat = sandbox.chat()?;
    let people = [("1", "patient"), ("2", "professional")];
    let minted =
        OpenConversationRequest { id: ID.to_uppercase(), number: 77, ..request(ConversationKind::Clinic, &people) };
    let (first, created) = open(&mut chat, minted.clone()).await?;
    assert!(created);
    assert_eq!((first.id.as_str(), first.number), (ID, 77));
    assert!(!open(&mut chat, minted.clone()).await?.1, "loading it again changes nothing");
    // Without an id, the same people get it.
    assert_eq!(open(&mut chat, request(ConversationKind::Clinic, &people)).await?.0.id, ID);

    let other = [("1", "patient"), ("3", "professional")];
    for taken in [
        OpenConversationRequest { id: ID.to_owned(), ..request(ConversationKind::Clinic, &other) },
        OpenConversationRequest { number: 77, ..request(ConversationKind::Clinic, &other) },
        OpenConversationRequest { number: 78, ..minted.clone() },
    ] {
        let status = open(&mut chat, taken).await.expect_err("taken");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "ALREADY_EXISTS"));
    }
    // A number is unique within its kind, and the next one made is above it.
    let therapy = [("1", "customer"), ("2", "therapist")];
    assert!(
        open(&mut chat, OpenConversationRequest { number: 77, ..request(ConversationKind::Therapy, &therapy) })
            .await?
            .1
    );
    assert_eq!(open(&mut chat, request(ConversationKind::Clinic, &other)).await?.0.number, 78);
    // A further conversation of the same people can be minted elsewhere.
    let further = OpenConversationRequest { number: 500, ..request(ConversationKind::Clinic, &people) };
    assert!(open(&mut chat, further).await?.1);
    let by_number = get_conversation_request::Conversation::ConversationNumber(ConversationNumber {
        kind: ConversationKind::Clinic.into(),
        number: 500,
    });
    let found = chat.get_conversation(GetConversationRequest { conversation: Some(by_number), user_id: String::new() });
    assert_eq!(found.await?.into_inner().summary.context("found")?.conversation.context("found")?.number, 500);
    Ok(())
}

async fn openings_at_once_make_one(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut chat = sandbox.chat()?;
        tasks.spawn(async move {
            open(&mut chat, request(ConversationKind::Therapy, &[("1", "customer"), ("2", "therapist")])).await
        });
        // Others race for the next number.
        let mut chat = sandbox.chat()?;
        tasks.spawn(async move { open(&mut chat, request(ConversationKind::Mobile, &[("d", "device")])).await });
    }
    let (mut therapies, mut mobiles) = (Vec::new(), Vec::new());
    while let Some(opened) = tasks.join_next().await {
        let (conversation, created) = opened??;
        if conversation.kind() == ConversationKind::Therapy {
            therapies.push((conversation.id, created));
        } else {
            mobiles.push(conversation.number);
        }
    }
    assert_eq!(therapies.iter().filter(|(_, created)| *created).count(), 1);
    assert!(therapies.iter().all(|(id, _)| *id == therapies[0].0));
    mobiles.sort_unstable();
    assert_eq!(mobiles, (1..=20).collect::<Vec<i64>>());
    Ok(())
}

async fn sends_are_repeatable(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat).await?;
    let with = |user: &str, content: &str, change: &dyn Fn(&mut Send)| {
        let mut request = text(&id, user, content);
        change(request.send.as_mut().expect("a send"));
        request
    };
    let by_client_id = |send: &mut Send| send.client_message_id = "c-1".to_owned();
    let first = chat.send_message(with("p", "one", &by_client_id)).await?.into_inner();
    assert!(first.created);
    let again = chat.send_message(with("p", "other words", &by_client_id)).await?.into_inner();
    assert_eq!((again.message.clone(), again.created), (first.message.clone(), false));
    let theirs = chat.send_message(with("d", "two", &by_client_id)).await?.into_inner();
    assert!(theirs.created, "another sender's id is another id");

    const MINE: &str = "01890000-0000-7000-8000-000000000001";
    let by_id = |send: &mut Send| send.id = MINE.to_owned();
    let chosen = chat.send_message(with("p", "three", &by_id)).await?.into_inner();
    assert_eq!(chosen.message.as_ref().map(|message| message.id.as_str()), Some(MINE));
    for retry in [true, false] {
        let again = chat
            .send_message(with("p", "three", &|send: &mut Send| {
                send.id = MINE.to_owned();
                send.retry = retry;
            }))
            .await?
            .into_inner();
        assert_eq!((again.message.clone(), again.created), (chosen.message.clone(), false), "retry: {retry}");
    }
    let stolen = chat.send_message(with("d", "three", &by_id)).await.expect_err("taken");
    assert_eq!(reason(&stolen), "ALREADY_EXISTS");

    // Many at once with the same client id.
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mut chat = chat.clone();
        let send = with("p", &n.to_string(), &|send: &mut Send| send.client_message_id = "c-2".to_owned());
        tasks.spawn(async move { chat.send_message(send).await });
    }
    let mut created = 0;
    while let Some(sent) = tasks.join_next().await {
        created += usize::from(sent??.into_inner().created);
    }
    assert_eq!(created, 1);
    // And with the same id, as an edge whose stream broke may do.
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mut chat = chat.clone();
        let send = with("p", "raced", &|send: &mut Send| {
            send.id = "01890000-0000-7000-8000-000000000002".to_owned();
            send.retry = n % 2 == 0;
        });
        tasks.spawn(async move { chat.send_message(send).await });
    }
    let mut created = 0;
    while let Some(sent) = tasks.join_next().await {
        created += usize::from(sent??.into_inner().created);
    }
    assert_eq!(created, 1);
    let stored = contents(&mut chat, ListMessagesRequest { conversation_id: id.clone(), ..Default::default() }).await?;
    assert_eq!(stored.len(), 5);
    assert_eq!(stored[..3], ["one", "two", "three"]);
    Ok(())
}

async fn what_is_wrong_is_named(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat).await?;
    let nowhere = "00000000-0000-4000-8000-000000000000";
    let cases = [
        (text(&id, "p", "  "), Code::InvalidArgument, "EMPTY_CONTENT"),
        (text(&id, "p", "a\0b"), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (text(&id, "x", "hi"), Code::PermissionDenied, "NOT_A_PARTICIPANT"),
        (text(nowhere, "p", "hi"), Code::NotFound, "CONVERSATION_NOT_FOUND"),
        (text("not a uuid", "p", "hi"), Code::NotFound, "CONVERSATION_NOT_FOUND"),
        (SendMessageRequest { send: None, ..text(&id, "p", "") }, Code::InvalidArgument, "INVALID_ARGUMENT"),
    ];
    for (request, code, expected) in cases {
        let status = chat.send_message(request).await.expect_err(expected);
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected));
        if code == Code::InvalidArgument {
            let field = &status.get_details_bad_request().context("details")?.field_violations[0].field;
            assert!(matches!(field.as_str(), "content" | "send"), "{field}");
        }
    }
    let nobody = open(&mut chat, request(ConversationKind::Clinic, &[("p", "patient")])).await.expect_err("too few");
    assert_eq!(nobody.get_details_bad_request().context("details")?.field_violations[0].field, "participants");

    let mut stranger = ChatServiceClient::connect(format!("http://{}", sandbox.grpc)).await?;
    let status = stranger.get_conversation(GetConversationRequest::default()).await.expect_err("no token");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "SERVICE_TOKEN_REQUIRED"));
    Ok(())
}

async fn messages_are_paged_by_key(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat).await?;
    let mut middle = None;
    for n in 1..=10 {
        let sent = chat.send_message(text(&id, if n % 2 == 0 { "p" } else { "d" }, &n.to_string())).await?.into_inner();
        let message = sent.message.context("stored")?;
        assert_eq!(message.seq, n);
        if n == 5 {
            middle = Some(message);
        }
    }
    let middle = middle.context("the fifth")?;
    let all = |from_seq, newest_first| ListMessagesRequest {
        conversation_id: id.clone(),
        page_size: 3,
        from_seq,
        newest_first,
        ..Default::default()
    };
    for (newest_first, expected) in [(false, (1..=10).collect::<Vec<u64>>()), (true, (1..=10).rev().collect())] {
        let (mut seen, mut from) = (Vec::new(), 0);
        loop {
            let page = chat.list_messages(all(from, newest_first)).await?.into_inner();
            assert_eq!(page.total_size, 10);
            seen.extend(page.messages.iter().map(|message| message.seq));
            from = page.next_from_seq;
            if from == 0 {
                break;
            }
        }
        assert_eq!(seen, expected);
    }
    for name in [middle.id.clone(), middle.id.to_uppercase(), middle.number.to_string()] {
        let after = ListMessagesRequest { from_message: name, ..all(0, false) };
        assert_eq!(contents(&mut chat, after).await?, ["6", "7", "8"]);
    }
    let skipping = |skip, newest_first| ListMessagesRequest { skip, ..all(0, newest_first) };
    assert_eq!(contents(&mut chat, skipping(8, false)).await?, ["9", "10"]);
    assert_eq!(contents(&mut chat, skipping(8, true)).await?, ["2", "1"]);
    assert!(contents(&mut chat, skipping(10, true)).await?.is_empty());
    assert!(contents(&mut chat, skipping(i32::MAX, false)).await?.is_empty());
    let unknown = contents(&mut chat, ListMessagesRequest { from_message: "999999".into(), ..all(0, false) }).await;
    assert_eq!(reason(&unknown.expect_err("unknown")), "MESSAGE_NOT_FOUND");
    let stranger = contents(&mut chat, ListMessagesRequest { user_id: "x".into(), ..all(0, false) }).await;
    assert_eq!(stranger.expect_err("not theirs").code(), Code::PermissionDenied);
    Ok(())
}

async fn conversations_are_listed(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let mut ids = Vec::new();
    for n in 0..5 {
        let people = [("me", "client"), ("you", "expert")];
        let opened = open(
            &mut chat,
            OpenConversationRequest { subject: n.to_string(), ..request(ConversationKind::Consultation, &people) },
        );
        ids.push(opened.await?.0.id);
    }
    open(&mut chat, request(ConversationKind::Consultation, &[("other", "client"), ("you", "expert")])).await?;
    chat.send_message(text(&ids[1], "you", "first")).await?;
    chat.send_message(text(&ids[1], "you", "last")).await?;
    chat.close_conversation(CloseConversationRequest { conversation_id: ids[3].clone() }).await?;

    let all = ListConversationsRequest {
        user_id: "me".into(),
        kind: ConversationKind::Consultation.into(),
        page_size: 2,
        open_first: true,
        ..Default::default()
    };
    let (mut subjects, mut token) = (Vec::new(), String::new());
    loop {
        let page =
            chat.list_conversations(ListConversationsRequest { page_token: token, ..all.clone() }).await?.into_inner();
        assert_eq!(page.total_size, 5);
        for summary in &page.summaries {
            let conversation = summary.conversation.clone().context("conversation")?;
            assert_eq!(conversation.participants.len(), 2);
            let busy = conversation.id == ids[1];
            assert_eq!(summary.unread_count, if busy { 2 } else { 0 });
            assert_eq!(summary.last_message.as_ref().map(|message| message.content.as_str()), busy.then_some("last"));
            subjects.push(conversation.subject);
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(subjects, ["1", "4", "2", "0", "3"], "open before closed, the latest activity first");
    let skipped = chat.list_conversations(ListConversationsRequest { skip: 3, ..all.clone() }).await?.into_inner();
    assert_eq!(skipped.summaries.len(), 2);
    let bad = chat.list_conversations(ListConversationsRequest { page_token: "junk".into(), ..all }).await;
    assert_eq!(bad.expect_err("not a token").code(), Code::InvalidArgument);
    Ok(())
}

async fn receipts_only_move_forward(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat).await?;
    let mut numbers = Vec::new();
    for (user, content) in [("p", "1"), ("d", "2"), ("p", "3"), ("p", "4")] {
        numbers.push(chat.send_message(text(&id, user, content)).await?.into_inner().message.context("stored")?.number);
    }
    let update = |status: MessageStatus, receipt: Receipt| UpdateReceiptsRequest {
        conversation_id: id.clone(),
        user_id: "d".into(),
        role: String::new(),
        receipt: Some(Receipt { status: status.into(), ..receipt }),
    };
    let these = |ids: &[i64], strict| Receipt {
        message_ids: ids.iter().map(ToString::to_string).collect(),
        strict,
        ..Receipt::default()
    };
    let up_to = Receipt { up_to: numbers[2].to_string(), ..Receipt::default() };
    let all = Receipt { all: true, ..Receipt::default() };
    use MessageStatus::{Delivered, Read};
    let steps = [
        (Delivered, these(&[numbers[0], 999_999], false), vec![numbers[0]]),
        (Delivered, these(&[numbers[0]], false), vec![]),
        (Read, these(&[numbers[1]], false), vec![]), // one's own
        (Read, up_to.clone(), vec![numbers[0], numbers[2]]),
        (Delivered, up_to, vec![]),
        (Read, all.clone(), vec![numbers[3]]),
        (Read, all, vec![]),
    ];
    for (step, (status, receipt, expected)) in steps.into_iter().enumerate() {
        let changed = chat.update_receipts(update(status, receipt)).await?.into_inner().messages;
        assert_eq!(changed.iter().map(|message| message.number).collect::<Vec<_>>(), expected, "step {step}");
    }
    let own = chat.update_receipts(update(Read, these(&[numbers[1]], true))).await.expect_err("own");
    assert_eq!(reason(&own), "OWN_MESSAGE");
    let unknown = chat.update_receipts(update(Read, these(&[999_999], true))).await.expect_err("unknown");
    assert_eq!(reason(&unknown), "MESSAGE_NOT_FOUND");
    let page =
        chat.list_messages(ListMessagesRequest { conversation_id: id, ..Default::default() }).await?.into_inner();
    let statuses: Vec<MessageStatus> = page.messages.iter().map(|message| message.status()).collect();
    assert_eq!(statuses, [Read, MessageStatus::Sent, Read, Read]);
    Ok(())
}

async fn receipts_of_thousands_come_in_parts(sandbox: &Sandbox) -> anyhow::Result<()> {
    const MESSAGES: usize = 2_300;
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat).await?;
    let mut stream = Stream::open(sandbox).await?;
    stream.join(1, &id, "p", "");
    stream.next().await?;
    let mut ids = Vec::new();
    for part in [1_000, 1_000, MESSAGES - 2_000] {
        for _ in 0..part {
            stream.say(1, 0, "x");
        }
        for _ in 0..part {
            let Some(Event::Message(message)) = stream.next().await?.event else { panic!("not a message") };
            ids.push(message.number.to_string());
        }
    }
    let reader = |receipt| UpdateReceiptsRequest {
        conversation_id: id.clone(),
        user_id: "d".into(),
        role: String::new(),
        receipt: Some(Receipt { status: MessageStatus::Read.into(), ..receipt }),
    };
    // As many by name as can be named at once, by number and by id.
    let named = Receipt { message_ids: ids[..1_000].to_vec(), ..Receipt::default() };
    let changed = chat.update_receipts(reader(named)).await?.into_inner();
    assert_eq!((changed.changed, changed.messages.len()), (1_000, 1_000));
    assert!(matches!(stream.next().await?.event, Some(Event::Receipts(receipts)) if receipts.messages.len() == 1_000));
    let all = Receipt { all: true, ..Receipt::default() };
    let changed = chat.update_receipts(reader(all)).await?.into_inner();
    assert_eq!((changed.changed, changed.messages.len()), (1_300, 1_000));
    for part in [1_000, 300] {
        assert!(
            matches!(stream.next().await?.event, Some(Event::Receipts(receipts)) if receipts.messages.len() == part)
        );
    }
    Ok(())
}

async fn a_closed_conversation_can_only_be_read(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat).await?;
    chat.send_message(text(&id, "p", "before")).await?;
    for _ in 0..2 {
        let closed =
            chat.close_conversation(CloseConversationRequest { conversation_id: id.clone() }).await?.into_inner();
        assert_eq!(closed.conversation.context("closed")?.status(), ConversationStatus::Closed);
    }
    let refused = chat.send_message(text(&id, "p", "after")).await.expect_err("closed");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "CONVERSATION_CLOSED"));
    assert_eq!(
        contents(&mut chat, ListMessagesRequest { conversation_id: id, ..Default::default() }).await?,
        ["before"]
    );
    Ok(())
}

async fn erasing_really_erases(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat).await?;
    for (user, content) in [("p", "secret"), ("d", "kept"), ("p", "secret too"), ("d", "kept too"), ("d", "kept three")]
    {
        chat.send_message(text(&id, user, content)).await?;
    }
    let mut stream = Stream::open(sandbox).await?;
    stream.join(1, &id, "p", "");
    stream.next().await?;
    let erased = chat.erase_user(EraseUserRequest { user_id: "p".into() }).await?.into_inner();
    assert_eq!((erased.messages_erased, erased.seats_erased), (2, 1));
    stream.say(1, 2, "from the grave");
    let after = stream.next().await?.event;
    assert!(matches!(after, Some(Event::Refused(refused)) if refused.reason() == RefusalReason::NotAParticipant));
    stream.join(2, &id, "p", "");
    assert!(matches!(stream.next().await?.event, Some(Event::Refused(_))), "the seat is gone");
    let page = |skip| ListMessagesRequest { conversation_id: id.clone(), skip, page_size: 2, ..Default::default() };
    assert_eq!(contents(&mut chat, page(0)).await?, ["kept", "kept too"]);
    assert_eq!(contents(&mut chat, page(2)).await?, ["kept three"], "pages count what is left");
    assert_eq!(chat.list_messages(page(0)).await?.into_inner().total_size, 3);
    assert_eq!(chat.send_message(text(&id, "p", "hi")).await.expect_err("gone").code(), Code::PermissionDenied);
    let sent = chat.send_message(text(&id, "d", "next")).await?.into_inner().message.context("stored")?;
    assert_eq!(sent.seq, 6, "places are not taken again");
    Ok(())
}

/// A stream by hand.
struct Stream {
    requests: mpsc::UnboundedSender<ConverseRequest>,
    responses: Streaming<ConverseResponse>,
}

impl Stream {
    async fn open(sandbox: &Sandbox) -> anyhow::Result<Self> {
        Self::open_at(sandbox, sandbox.grpc).await
    }

    async fn open_at(sandbox: &Sandbox, address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let mut chat = ChatServiceClient::new(sandbox.peer_at(address)?);
        let responses = chat.converse(UnboundedReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    fn act(&self, session: u64, request: u64, action: Action) {
        let action = Some(action);
        let asked = ConverseRequest { session, action, request, ..ConverseRequest::default() };
        self.requests.send(asked).expect("open");
    }

    fn join(&self, session: u64, conversation_id: &str, user_id: &str, role: &str) {
        let conversation = Some(join::Conversation::ConversationId(conversation_id.to_owned()));
        let join = Join { conversation, user_id: user_id.to_owned(), role: role.to_owned(), ..Join::default() };
        self.act(session, 1, Action::Join(join));
    }

    fn say(&self, session: u64, request: u64, content: &str) {
        self.act(session, request, Action::Send(Send { content: content.to_owned(), ..Send::default() }));
    }

    async fn next(&mut self) -> anyhow::Result<ConverseResponse> {
        tokio::time::timeout(PATIENCE, self.responses.message()).await.context("nothing came")??.context("the end")
    }

    async fn next_message(&mut self) -> anyhow::Result<(Vec<u64>, u64, String, Option<(u64, u64)>)> {
        let frame = self.next().await?;
        match frame.event {
            Some(Event::Message(message)) => {
                let mut sessions = frame.sessions;
                sessions.sort_unstable();
                Ok((
                    sessions,
                    message.seq,
                    message.content,
                    frame.answer.map(|answer| (answer.session, answer.request)),
                ))
            }
            other => anyhow::bail!("{other:?} instead of a message"),
        }
    }
}

async fn a_stream_carries_many_sessions(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat).await?;
    let (other, _) =
        open(&mut chat, request(ConversationKind::Clinic, &[("p", "patient"), ("e", "professional")])).await?;
    let mut stream = Stream::open(sandbox).await?;
    // Said before the join is answered: it waits.
    stream.join(1, &id, "p", "");
    stream.say(1, 2, "early");
    assert!(matches!(stream.next().await?.event, Some(Event::Joined(joined)) if joined.role == "patient"));
    assert_eq!(stream.next_message().await?, (vec![1], 1, "early".into(), Some((1, 2))));
    stream.join(2, &id, "d", "");
    stream.next().await?;
    stream.join(3, &other.id, "p", "");
    stream.next().await?;
    stream.say(2, 7, "to both");
    assert_eq!(
        stream.next_message().await?,
        (vec![1, 2], 2, "to both".into(), Some((2, 7))),
        "one frame for two sessions"
    );
    stream.say(3, 8, "elsewhere");
    assert_eq!(stream.next_message().await?, (vec![3], 1, "elsewhere".into(), Some((3, 8))));

    stream.act(1, 9, Action::Typing(Typing { is_typing: true, ..Typing::default() }));
    let frame = stream.next().await?;
    assert!(matches!(&frame.event, Some(Event::Typing(typing)) if typing.user_id == "p" && typing.is_typing));
    assert_eq!((frame.sessions.len(), frame.answer.map(|answer| answer.request)), (2, Some(9)));
    let read = |all| Action::Receipt(Receipt { status: MessageStatus::Read.into(), all, ..Receipt::default() });
    stream.act(1, 10, read(true));
    assert!(matches!(stream.next().await?.event, Some(Event::Receipts(receipts)) if receipts.messages.len() == 1));
    stream.act(1, 11, read(true));
    assert!(matches!(stream.next().await?.event, Some(Event::Accepted(_))), "nothing changed");

    // What is refused is answered, and the stream goes on.
    let refusals = [
        (1, Action::Send(Send::default()), RefusalReason::EmptyContent),
        (9, Action::Send(Send { content: "x".into(), ..Send::default() }), RefusalReason::NotJoined),
        (1, Action::Join(Join::default()), RefusalReason::AlreadyJoined),
        (0, Action::Join(Join::default()), RefusalReason::InvalidArgument),
        (1, read(false), RefusalReason::Unspecified), // nothing named: nothing changes
        (
            1,
            Action::Send(Send { content: "x".into(), role: "professional".into(), ..Send::default() }),
            RefusalReason::WrongRole,
        ),
    ];
    for (session, action, expected) in refusals {
        stream.act(session, 20, action);
        let frame = stream.next().await?;
        match frame.event {
            Some(Event::Refused(refused)) => assert_eq!(refused.reason(), expected),
            Some(Event::Accepted(_)) => assert_eq!(RefusalReason::Unspecified, expected),
            other => panic!("{other:?} instead of {expected:?}"),
        }
        assert_eq!(frame.answer.map(|answer| (answer.session, answer.request)), Some((session, 20)));
    }
    for (user, role, expected) in [
        ("x", "", RefusalReason::NotAParticipant),
        ("x", "staff", RefusalReason::NotAParticipant),
        ("p", "professional", RefusalReason::WrongRole),
    ] {
        stream.join(30, &id, user, role);
        assert!(matches!(stream.next().await?.event, Some(Event::Refused(refused)) if refused.reason() == expected));
    }
    // A join that is left at once, and another with the same number.
    stream.join(40, &id, "p", "");
    stream.act(40, 0, Action::Leave(Leave::default()));
    stream.join(40, &other.id, "p", "");
    for expected in [&id, &other.id] {
        let Some(Event::Joined(joined)) = stream.next().await?.event else { panic!("not joined") };
        assert_eq!(joined.conversation.map(|conversation| conversation.id).as_ref(), Some(expected));
    }
    stream.say(40, 41, "in the second");
    assert_eq!(stream.next_message().await?, (vec![3, 40], 2, "in the second".into(), Some((40, 41))));
    // An action without a number is answered by what it does, and by nothing else.
    stream.say(3, 0, "unnumbered");
    assert_eq!(stream.next_message().await?.2, "unnumbered");
    stream.act(40, 0, Action::Leave(Leave::default()));
    // Who left hears nothing.
    stream.act(1, 0, Action::Leave(Leave::default()));
    stream.say(2, 12, "alone");
    assert_eq!(stream.next_message().await?, (vec![2], 3, "alone".into(), Some((2, 12))));
    Ok(())
}

async fn a_half_closed_stream_hears_its_answers(sandbox: &Sandbox) -> anyhow::Result<()> {
    let id = clinic(&mut sandbox.chat()?).await?;
    let Stream { requests, responses } = Stream::open(sandbox).await?;
    let mut stream = Stream { requests: requests.clone(), responses };
    stream.join(1, &id, "p", "");
    stream.say(1, 2, "last words");
    stream.requests = mpsc::unbounded_channel().0;
    drop(requests);
    assert!(matches!(stream.next().await?.event, Some(Event::Joined(_))));
    assert_eq!(stream.next_message().await?.2, "last words");
    assert!(stream.next().await.is_err(), "then the stream ends");
    Ok(())
}

async fn joins_are_told_once_per_person(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = open(&mut chat, request(ConversationKind::Mobile, &[("dev", "device")])).await?.0.id;
    let mut stream = Stream::open(sandbox).await?;
    stream.join(1, &id, "dev", "");
    assert!(matches!(stream.next().await?.event, Some(Event::Joined(_))));
    assert!(matches!(stream.next().await?.event, Some(Event::ParticipantJoined(joined)) if joined.user_id == "dev"));
    stream.join(2, &id, "dev", "");
    assert!(matches!(stream.next().await?.event, Some(Event::Joined(_))));
    stream.join(3, &id, "9", "staff");
    assert!(matches!(stream.next().await?.event, Some(Event::Joined(_))), "the second socket was not told");
    assert!(matches!(stream.next().await?.event, Some(Event::ParticipantJoined(joined)) if joined.role == "staff"));
    stream.act(1, 0, Action::Leave(Leave::default()));
    stream.act(2, 0, Action::Leave(Leave::default()));
    let frame = stream.next().await?;
    assert_eq!(frame.sessions, [3], "told when the last socket left, to who remains");
    assert!(matches!(frame.event, Some(Event::ParticipantLeft(left)) if left.user_id == "dev"));
    // Who comes again after a broken stream is told of only if the going was told.
    let again = |kinds: Vec<i32>| {
        let conversation = Some(join::Conversation::ConversationId(id.clone()));
        Action::Join(Join {
            conversation,
            user_id: "dev".into(),
            role: String::new(),
            kinds,
            again: true,
            unseen: false,
        })
    };
    stream.act(4, 1, again(vec![ConversationKind::Clinic.into()]));
    let refused = stream.next().await?.event;
    assert!(
        matches!(refused, Some(Event::Refused(refused)) if refused.reason() == RefusalReason::ConversationNotFound)
    );
    stream.act(4, 1, again(vec![ConversationKind::Mobile.into()]));
    assert!(matches!(stream.next().await?.event, Some(Event::Joined(_))));
    assert!(matches!(stream.next().await?.event, Some(Event::ParticipantJoined(_))), "its going had been told");
    // The room ends with its last session, and knows nothing when it begins anew.
    stream.act(4, 0, Action::Leave(Leave::default()));
    assert!(matches!(stream.next().await?.event, Some(Event::ParticipantLeft(_))));
    stream.act(3, 0, Action::Leave(Leave::default()));
    stream.act(5, 1, again(Vec::new()));
    assert!(matches!(stream.next().await?.event, Some(Event::Joined(_))));
    stream.join(3, &id, "9", "staff");
    assert!(matches!(stream.next().await?.event, Some(Event::Joined(_))), "the one before came silently");
    assert!(matches!(stream.next().await?.event, Some(Event::ParticipantJoined(joined)) if joined.role == "staff"));
    stream.act(5, 0, Action::Leave(Leave::default()));
    assert!(matches!(stream.next().await?.event, Some(Event::ParticipantLeft(_))));
    let image = Send {
        message_type: MessageType::Image.into(),
        media_url: "https://example.com/i.jpg".into(),
        is_urgent: true,
        metadata_json: r#"{"a":1}"#.into(),
        ..Send::default()
    };
    stream.act(3, 4, Action::Send(image));
    let Some(Event::Message(message)) = stream.next().await?.event else { panic!("not a message") };
    assert_eq!(
        (message.message_type(), message.is_urgent, message.metadata_json.as_str()),
        (MessageType::Image, true, r#"{"a":1}"#)
    );
    Ok(())
}

async fn users_devices_and_sessions(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut identity = sandbox.identity()?;
    let user = User {
        id: "1".into(),
        username: "ada".into(),
        full_name: "Ada".into(),
        email: "ada@example.com".into(),
        profile_id: "p".into(),
        profiles: [("Patient".to_owned(), "pp".to_owned())].into(),
        roles: vec!["Provider".into(), "patient".into()],
        assigned_mentor_id: "2".into(),
        inactive: false,
    };
    let stored = identity.upsert_user(UpsertUserRequest { user: Some(user.clone()) }).await?.into_inner();
    assert!(stored.created);
    let stored = stored.user.context("stored")?;
    assert_eq!(stored.roles, ["patient", "professional"]);
    let key = Key::Profile(ProfileKey { role: "PATIENT".into(), profile_id: "pp".into() });
    for key in [Key::UserId("1".into()), key] {
        let found = identity.get_user(GetUserRequest { key: Some(key) }).await?.into_inner().user;
        assert_eq!(found.as_ref(), Some(&stored));
    }
    let changed = User { profiles: [("patient".to_owned(), "other".to_owned())].into(), ..stored.clone() };
    assert!(!identity.upsert_user(UpsertUserRequest { user: Some(changed) }).await?.into_inner().created);
    let key = Key::Profile(ProfileKey { role: "patient".into(), profile_id: "pp".into() });
    let gone = identity.get_user(GetUserRequest { key: Some(key) }).await.expect_err("the old profile");
    assert_eq!(reason(&gone), "USER_NOT_FOUND");
    let batch = BatchGetUsersRequest { user_ids: vec!["1".into(), "nobody".into()] };
    assert_eq!(identity.batch_get_users(batch).await?.into_inner().users.len(), 1);
    let wrong = identity.upsert_user(UpsertUserRequest { user: Some(User::default()) }).await.expect_err("no id");
    assert_eq!(wrong.get_details_bad_request().context("details")?.field_violations[0].field, "user.id");

    let check = |credential| AuthenticateRequest { credential: Some(credential) };
    let by_session = |key: &str| check(Credential::SessionKey(key.to_owned()));
    let session =
        identity.create_session(CreateSessionRequest { user_id: "1".into(), ttl_seconds: 60 }).await?.into_inner();
    let who =
        identity.authenticate(by_session(&session.session_key)).await?.into_inner().principal.context("someone")?;
    assert!(matches!(who.subject, Some(Subject::User(user)) if user.id == "1"));
    assert_eq!(who.expires_at, session.expires_at);
    assert!(
        identity
            .delete_session(DeleteSessionRequest { session_key: session.session_key.clone() })
            .await?
            .into_inner()
            .deleted
    );
    let ended = identity.authenticate(by_session(&session.session_key)).await.expect_err("ended");
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unauthenticated, "SESSION_INVALID"));
    let nobody = CreateSessionRequest { user_id: "nobody".into(), ttl_seconds: 0 };
    assert_eq!(identity.create_session(nobody).await.expect_err("nobody").code(), Code::NotFound);

    let device = || RegisterDeviceRequest { device_id: "abc123xyz".into(), ..RegisterDeviceRequest::default() };
    let by_device = || check(Credential::DeviceId("abc123xyz".into()));
    assert_eq!(reason(&identity.authenticate(by_device()).await.expect_err("unknown")), "DEVICE_INVALID");
    assert!(identity.register_device(device()).await?.into_inner().created);
    assert!(!identity.register_device(device()).await?.into_inner().created);
    let who = identity.authenticate(by_device()).await?.into_inner().principal.context("someone")?;
    assert!(matches!(who.subject, Some(Subject::Device(device)) if device.device_id == "abc123xyz"));
    identity.deactivate_device(DeactivateDeviceRequest { device_id: "abc123xyz".into() }).await?;
    assert_eq!(reason(&identity.authenticate(by_device()).await.expect_err("inactive")), "DEVICE_INVALID");
    let by_itself = RegisterDeviceRequest { keep_inactive: true, ..device() };
    assert_eq!(identity.register_device(by_itself).await?.into_inner().device.map(|device| device.active), Some(false));
    assert_eq!(reason(&identity.authenticate(by_device()).await.expect_err("still inactive")), "DEVICE_INVALID");
    assert_eq!(identity.register_device(device()).await?.into_inner().device.map(|device| device.active), Some(true));

    // A good token of an unknown user creates the user from its claims; what we were told stays as it was told.
    let claims = User { id: "77".into(), full_name: "New".into(), roles: vec!["admin".into()], ..User::default() };
    let token = sandbox.token_for(&claims, 60)?;
    identity.authenticate(check(Credential::Token(token))).await?;
    let made = identity.get_user(GetUserRequest { key: Some(Key::UserId("77".into())) }).await?.into_inner().user;
    assert_eq!(made.map(|user| (user.full_name, user.roles)), Some(("New".into(), vec!["staff".into()])));
    let token = sandbox.token_for(&User { roles: vec!["admin".into()], ..claims.clone() }, -1)?;
    assert_eq!(
        reason(&identity.authenticate(check(Credential::Token(token))).await.expect_err("old")),
        "TOKEN_EXPIRED"
    );
    let token = sandbox.token_for(&User { id: "1".into(), roles: vec!["admin".into()], ..User::default() }, 60)?;
    let who =
        identity.authenticate(check(Credential::Token(token))).await?.into_inner().principal.context("someone")?;
    assert!(matches!(who.subject, Some(Subject::User(user)) if user.roles == ["patient", "professional"]));

    assert!(identity.delete_user(DeleteUserRequest { user_id: "1".into() }).await?.into_inner().deleted);
    assert!(!identity.delete_user(DeleteUserRequest { user_id: "1".into() }).await?.into_inner().deleted);
    Ok(())
}

/// Two instances append to the same conversations; each tells its sessions everything, once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_a_conversation() -> anyhow::Result<()> {
    const EACH: u64 = 200;
    let sandbox = Sandbox::start(Backend::Postgres).await?;
    let (second, lifecycle) = sandbox.another(&[Role::Chat]).await?;
    let id = clinic(&mut sandbox.chat()?).await?;
    let mut here = Stream::open(&sandbox).await?;
    let mut there = Stream::open_at(&sandbox, second).await?;
    for (stream, user) in [(&mut here, "p"), (&mut there, "d")] {
        stream.join(1, &id, user, "");
        assert!(matches!(stream.next().await?.event, Some(Event::Joined(_))));
    }
    for n in 0..EACH {
        here.say(1, 0, &format!("p{n}"));
        there.say(1, 0, &format!("d{n}"));
    }
    let mut heard = [Vec::new(), Vec::new()];
    for (stream, heard) in [&mut here, &mut there].into_iter().zip(&mut heard) {
        while heard.len() < 2 * usize::try_from(EACH)? {
            if let Some(Event::Message(message)) = stream.next().await?.event {
                heard.push((message.seq, message.content));
            }
        }
    }
    assert_eq!(heard[0], heard[1]);
    assert!(heard[0].iter().map(|(seq, _)| *seq).eq(1..=2 * EACH));
    for side in ["p", "d"] {
        let theirs: Vec<&str> =
            heard[0].iter().map(|(_, content)| content.as_str()).filter(|content| content.starts_with(side)).collect();
        assert_eq!(theirs, (0..EACH).map(|n| format!("{side}{n}")).collect::<Vec<_>>(), "each sender's own order");
    }
    lifecycle.stop();
    Ok(())
}

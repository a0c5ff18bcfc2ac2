//! The accounts and conversations that are read, made through the server's own interface.

use std::net::SocketAddr;

use futures_util::future::try_join_all;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Reads;
use super::http::{Link, Question};

/// What there is to read.
pub(super) struct World {
    pub(super) users: Vec<User>,
    pub(super) conversations: Vec<Conversation>,
}

/// An account.
pub(super) struct User {
    pub(super) id: String,
    /// The value of `Authorization`.
    pub(super) bearer: HeaderValue,
    /// One of the conversations it is in.
    pub(super) conversation: usize,
}

/// A conversation.
pub(super) struct Conversation {
    pub(super) id: String,
    pub(super) members: Vec<usize>,
}

#[derive(Deserialize)]
struct SignedUp {
    token: String,
}

/// Members of each conversation; a user is in about three.
const MEMBERS: usize = 30;
/// Requests under way while the world is made. Passwords are hashed a few at a time anyway.
const AT_ONCE: usize = 16;

impl Conversation {
    pub(super) fn message(&self, content: &str, bearer: &HeaderValue) -> Question {
        let body = json!({"conversationId": self.id, "content": content});
        Question::post("/api/messages", Some(bearer), &body)
    }
}

/// Makes it.
pub(super) async fn make(reads: &Reads, server: SocketAddr) -> Result<World, String> {
    let run: u32 = rand::random();
    let (users, conversations) = (reads.users as usize, reads.conversations as usize);
    let base = |conversation: usize| conversation * users / conversations;
    let size = MEMBERS.min(users);
    let signed_up = spread(server, users, |n| {
        let body = json!({
            "id": format!("load-{run:08x}-{n}"),
            "email": format!("load-{run:08x}-{n}@example.com"),
            "password": format!("only for load {run:08x}"),
            "name": format!("Load {n}"),
        });
        vec![Question::post("/api/signup", None, &body)]
    });
    let mut made = Vec::with_capacity(users);
    for (n, answer) in signed_up.await?.into_iter().enumerate() {
        let SignedUp { token } = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
        let bearer =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|e| e.to_string())?;
        made.push(User {
            id: format!("load-{run:08x}-{n}"),
            bearer,
            conversation: n * conversations / users,
        });
    }
    let found: Vec<Conversation> = (0..conversations)
        .map(|n| Conversation {
            id: format!("load-{run:08x}-{n}"),
            members: (0..size).map(|k| (base(n) + k) % users).collect(),
        })
        .collect();
    spread(server, conversations, |n| {
        let conversation = &found[n];
        let ids: Vec<_> = conversation.members.iter().map(|m| &made[*m].id).collect();
        let body =
            json!({"id": conversation.id, "title": format!("Load {n}"), "members": ids[1..]});
        let bearer = |member: usize| &made[conversation.members[member % size]].bearer;
        let mut questions = vec![Question::post("/api/conversations", Some(bearer(0)), &body)];
        questions.extend((0..reads.messages as usize).map(|m| {
            let content = format!("message {m} of those that were there before anybody read");
            conversation.message(&content, bearer(m))
        }));
        questions
    })
    .await?;
    Ok(World {
        users: made,
        conversations: found,
    })
}

/// Asks what `questions` gives for each number, in order for one number; the first answer of each.
async fn spread(
    server: SocketAddr,
    count: usize,
    questions: impl Fn(usize) -> Vec<Question>,
) -> Result<Vec<Vec<u8>>, String> {
    let questions = &questions;
    let lanes = (0..AT_ONCE).map(|lane| async move {
        let mut link = Link::new(server);
        let mut answers = Vec::new();
        for n in (lane..count).step_by(AT_ONCE) {
            let mut first = None;
            for question in questions(n) {
                let path = question.path.clone();
                let (status, body) = link.ask(question).await?;
                if status != StatusCode::CREATED {
                    let told = String::from_utf8_lossy(&body);
                    return Err(format!("{path} was answered {status}: {told}"));
                }
                first.get_or_insert_with(|| body.to_vec());
            }
            answers.push((n, first.unwrap_or_default()));
        }
        Ok(answers)
    });
    let mut answers: Vec<_> = try_join_all(lanes).await?.into_iter().flatten().collect();
    answers.sort_by_key(|(n, _)| *n);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

//! Courses and buildings: who belongs to them.

use super::row::{self, args};
use super::{Error, Store};
use crate::types::{RoomName, Timestamp, UserId};

impl Store {
    /// Adds a user to a group, named by its room (`course:bio`, `building:7`). False if it was in it.
    pub async fn enroll(
        &self,
        group: &RoomName,
        user: &UserId,
        at: Timestamp,
    ) -> Result<bool, Error> {
        Ok(!self
            .change(ENROLL, args![group, user, at])
            .await?
            .is_empty())
    }

    /// Takes a user out. False if it was not in it.
    pub async fn withdraw(&self, group: &RoomName, user: &UserId) -> Result<bool, Error> {
        Ok(!self.change(WITHDRAW, args![group, user]).await?.is_empty())
    }

    /// A user's groups.
    pub async fn groups_of(&self, user: &UserId) -> Result<Vec<RoomName>, Error> {
        let rows = self.read(OF_USER, args![user]).await?;
        rows.iter().map(|found| row::room(found, 0)).collect()
    }

    /// A group's users by id, after one.
    pub async fn group_members(
        &self,
        group: &RoomName,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, Error> {
        // No id is empty, so all are after the empty text.
        let after = after.map_or("", UserId::as_str);
        let rows = self.read(MEMBERS, args![group, after, limit]).await?;
        rows.iter().map(|found| row::user(found, 0)).collect()
    }

    /// Whether a user is in a group.
    pub async fn is_in_group(&self, group: &RoomName, user: &UserId) -> Result<bool, Error> {
        self.is_there(IS_IN, args![group, user]).await
    }

    /// Whether two users are in one course.
    pub async fn share_course(&self, one: &UserId, other: &UserId) -> Result<bool, Error> {
        self.is_there(SHARE, args![one, other]).await
    }
}

const ENROLL: &str = "
    INSERT INTO group_member (room, user_id, at) VALUES ($1, $2, $3)
    ON CONFLICT (room, user_id) DO NOTHING RETURNING at";
const WITHDRAW: &str = "
    DELETE FROM group_member WHERE room = $1 AND user_id = $2 RETURNING at";
const OF_USER: &str = "SELECT room FROM group_member WHERE user_id = $1 ORDER BY room";
const MEMBERS: &str = "
    SELECT user_id FROM group_member WHERE room = $1 AND user_id > $2 ORDER BY user_id LIMIT $3";
const IS_IN: &str = "SELECT at FROM group_member WHERE room = $1 AND user_id = $2";
const SHARE: &str = "
    SELECT one.room FROM group_member one
    JOIN group_member other ON other.room = one.room AND other.user_id = $2
    WHERE one.user_id = $1 AND substr(one.room, 1, 7) = 'course:' LIMIT 1";

//! Courses and buildings: who belongs to them.

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
        todo!("{group} {user} {at}")
    }
    /// Takes a user out. False if it was not in it.
    pub async fn withdraw(&self, group: &RoomName, user: &UserId) -> Result<bool, Error> {
        todo!("{group} {user}")
    }
    /// A user's groups.
    pub async fn groups_of(&self, user: &UserId) -> Result<Vec<RoomName>, Error> {
        todo!("{user}")
    }
    /// A group's users by id, after one.
    pub async fn group_members(
        &self,
        group: &RoomName,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, Error> {
        todo!("{group} {after:?} {limit}")
    }
    /// Whether a user is in a group.
    pub async fn is_in_group(&self, group: &RoomName, user: &UserId) -> Result<bool, Error> {
        todo!("{group} {user}")
    }
    /// Whether two users are in one course.
    pub async fn share_course(&self, one: &UserId, other: &UserId) -> Result<bool, Error> {
        todo!("{one} {other}")
    }
}

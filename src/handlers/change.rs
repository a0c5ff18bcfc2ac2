//! `message:edit` and `message:delete`: by the owner or a moderator.

use std::sync::Arc;

use super::Context;
use crate::server::Namespace;

pub(super) fn register(_namespace: &mut Namespace, _context: &Arc<Context>) {}

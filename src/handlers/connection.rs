//! `connection:request`, `connection:accept`, `connection:reject`.

use std::sync::Arc;

use super::Context;
use crate::server::Namespace;

pub(super) fn register(_namespace: &mut Namespace, _context: &Arc<Context>) {}

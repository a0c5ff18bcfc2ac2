//! Records of the operator's kinds.

use std::sync::Arc;
use std::time::Duration;

use super::caches::pair;
use super::{Directory, Found};
use crate::store::{self, Record};

impl Directory {
    /// A record of an operator's kind.
    pub async fn record(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Found<Option<Arc<Record>>>, store::Error> {
        self.record_for(kind, id, None).await
    }

    /// The same, kept for a time of its own where the catalogue gives one.
    pub async fn record_for(
        &self,
        kind: &str,
        id: &str,
        ttl: Option<Duration>,
    ) -> Result<Found<Option<Arc<Record>>>, store::Error> {
        let (records, key) = (&self.0.caches.records, pair(kind, id));
        let load = || {
            let (store, kind, id) = (self.0.store.clone(), kind.to_owned(), id.to_owned());
            async move { Ok(store.record(&kind, &id).await?.map(Arc::new)) }
        };
        let found = match ttl {
            Some(ttl) => records.get_for(&key, ttl, load).await?,
            None => records.get_with(&key, load).await?,
        };
        Ok(found.into())
    }
}

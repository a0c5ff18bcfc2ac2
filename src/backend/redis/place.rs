//! Where a Redis server is: at an address, or wherever Sentinels or a Redis Cluster say at the moment.
//!
//! It is found again for every connection, so that a failover needs no more than a new connection.

use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, TlsCertificates,
};
use redis::{FromRedisValue, Value};

use super::{Error, Options};
use crate::types::Secret;

/// Where a server is.
#[derive(Debug, Clone)]
pub enum Place {
    /// `redis://[user:password@]host:port[/db]` or `rediss://…`.
    Server(Secret<String>),
    /// Where the Sentinels say that the primary is.
    Sentinel {
        /// The Sentinels, as `redis://…`.
        sentinels: Vec<Secret<String>>,
        /// What they call the primary.
        name: String,
        /// The URL of the primary, with `{}` for its host and port.
        primary: Secret<String>,
    },
    /// The master of a Redis Cluster that has the slot of this hash tag.
    Cluster {
        /// Some nodes of the cluster, as `redis://…`.
        seeds: Vec<Secret<String>>,
        /// The URL of a node, with `{}` for its host and port.
        node: Secret<String>,
        /// The tag, without braces.
        tag: String,
    },
}

/// Why a text says no place. The text itself is not shown, because it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Another scheme than those.
    #[error(
        "must begin with redis://, rediss://, or one of these with +sentinel or +cluster before the colon"
    )]
    Scheme,
    /// No host, or one that cannot be read.
    #[error("must name at least one host, like redis://host:6379")]
    Host,
    /// A Sentinel URL without the name of the primary.
    #[error("must end with the primary's name, like redis+sentinel://host:26379/NAME")]
    Name,
}

impl Place {
    /// Reads `redis[s]://[user:password@]host:port`, `redis[s]+sentinel://[user:password@]host:port,…/NAME`
    /// (with `?sentinel=auth` the Sentinels ask for the same user and password), or
    /// `redis[s]+cluster://[user:password@]host:port,…`; `tag` is the hash tag for the last.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str, tag: &str) -> Result<Self, PlaceError> {
        let (scheme, rest) = url.split_once("://").ok_or(PlaceError::Scheme)?;
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(scheme, "redis" | "rediss") {
            return Err(PlaceError::Scheme);
        }
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (format!("{user}@"), rest),
            None => (String::new(), rest),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let each = |user: &str| {
            let urls: Vec<_> = hosts
                .split(',')
                .map(str::trim)
                .map(|host| Secret::new(format!("{scheme}://{user}{host}")))
                .collect();
            let is_url =
                |url: &Secret<String>| url.reveal().as_str().into_connection_info().is_ok();
            let is_host = |host: &str| !host.trim().is_empty();
            match urls.iter().all(is_url) && hosts.split(',').all(is_host) {
                true => Ok(urls),
                false => Err(PlaceError::Host),
            }
        };
        let template = Secret::new(format!("{scheme}://{user}{{}}"));
        match kind {
            "" if hosts.contains(',') => Err(PlaceError::Host),
            "" => {
                each(&user)?;
                Ok(Self::Server(Secret::new(url.to_owned())))
            }
            "sentinel" if path.is_empty() => Err(PlaceError::Name),
            "sentinel" => Ok(Self::Sentinel {
                sentinels: each(if query == "sentinel=auth" { &user } else { "" })?,
                name: path.to_owned(),
                primary: template,
            }),
            "cluster" => Ok(Self::Cluster {
                seeds: each(&user)?,
                node: template,
                tag: tag.to_owned(),
            }),
            _ => Err(PlaceError::Scheme),
        }
    }

    /// Whether it is a part of a Redis Cluster, where what is published is heard by shard channels.
    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster { .. })
    }

    /// The command by which something is published there.
    #[must_use]
    pub const fn publish(&self) -> &'static str {
        match self.is_cluster() {
            true => "SPUBLISH",
            false => "PUBLISH",
        }
    }
}

/// A client of the server that is at the place now.
pub(super) async fn find(options: &Options, is_hearing: bool) -> Result<Client, Error> {
    let url = match &options.place {
        Place::Server(url) => url.clone(),
        Place::Sentinel {
            sentinels,
            name,
            primary,
        } => primary_of(options, (sentinels, name), primary).await?,
        Place::Cluster { seeds, node, tag } => master_of(options, (seeds, tag), node).await?,
    };
    client(options, &url, is_hearing)
}

fn client(options: &Options, url: &Secret<String>, is_hearing: bool) -> Result<Client, Error> {
    let info: ConnectionInfo = url
        .reveal()
        .as_str()
        .into_connection_info()
        .map_err(|_| Error::Url)?;
    let mut redis = info.redis_settings().clone();
    if is_hearing {
        redis = redis.set_protocol(ProtocolVersion::RESP3);
    }
    let info = info
        .set_redis_settings(redis)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: options.authority.clone(),
    };
    let is_private = options.authority.is_some() && url.reveal().starts_with("rediss");
    match is_private {
        true => Client::build_with_tls(info, certificates),
        false => Client::open(info),
    }
    .map_err(|_| Error::Url)
}

/// Asks one command on a connection of its own.
async fn ask<T: FromRedisValue>(
    options: &Options,
    url: &Secret<String>,
    command: &Cmd,
) -> Result<T, Error> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout));
    let mut link = client(options, url, false)?
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    Ok(command.query_async(&mut link).await?)
}

async fn primary_of(
    options: &Options,
    (sentinels, name): (&[Secret<String>], &str),
    primary: &Secret<String>,
) -> Result<Secret<String>, Error> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    for sentinel in sentinels {
        let answer: Result<Option<(String, u16)>, Error> = ask(options, sentinel, &question).await;
        let Ok(Some((host, port))) = answer else {
            continue;
        };
        let url = filled(primary, &host, port);
        // A Sentinel that was cut off may still name the old one.
        let role: Value = ask(options, &url, &redis::cmd("ROLE")).await?;
        if let Value::Array(parts) = role
            && let Some(word) = parts.into_iter().next()
            && redis::from_redis_value::<String>(word).is_ok_and(|word| word == "master")
        {
            return Ok(url);
        }
    }
    Err(Error::Nowhere("no Sentinel names a primary"))
}

/// One line of `CLUSTER SLOTS`: first slot, last slot, the master's address, its replicas.
async fn master_of(
    options: &Options,
    (seeds, tag): (&[Secret<String>], &str),
    node: &Secret<String>,
) -> Result<Secret<String>, Error> {
    let mut slot_of = redis::cmd("CLUSTER");
    slot_of.arg("KEYSLOT").arg(format!("{{{tag}}}"));
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    for seed in seeds {
        let slot: Result<u16, Error> = ask(options, seed, &slot_of).await;
        let table: Result<Vec<Vec<Value>>, Error> = ask(options, seed, &slots).await;
        let (Ok(slot), Ok(table)) = (slot, table) else {
            continue;
        };
        if let Some((host, port)) = table.into_iter().find_map(|line| master(line, slot)) {
            // A node that does not know its own name leaves it out.
            if !host.is_empty() && host != "?" {
                return Ok(filled(node, &host, port));
            }
            let info = seed.reveal().as_str().into_connection_info();
            if let Ok(redis::ConnectionAddr::Tcp(host, _)) = info.map(|info| info.addr().clone()) {
                return Ok(filled(node, &host, port));
            }
        }
    }
    Err(Error::Nowhere(
        "no node of the cluster knows the slot's master",
    ))
}

fn master(line: Vec<Value>, slot: u16) -> Option<(String, u16)> {
    let mut parts = line.into_iter();
    let first: u16 = redis::from_redis_value(parts.next()?).ok()?;
    let last: u16 = redis::from_redis_value(parts.next()?).ok()?;
    let Value::Array(address) = parts.next()? else {
        return None;
    };
    let mut address = address.into_iter();
    let host: Option<String> = redis::from_redis_value(address.next()?).ok()?;
    let port: u16 = redis::from_redis_value(address.next()?).ok()?;
    (first..=last)
        .contains(&slot)
        .then(|| (host.unwrap_or_default(), port))
}

fn filled(template: &Secret<String>, host: &str, port: u16) -> Secret<String> {
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    Secret::new(
        template
            .reveal()
            .replacen("{}", &format!("{host}:{port}"), 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let read = |url| Place::parse(url, "vb3");
        assert!(matches!(read("redis://h:1/2"), Ok(Place::Server(_))));
        let Ok(Place::Sentinel {
            sentinels,
            name,
            primary,
        }) = read("rediss+sentinel://u:p@a:1,b:2/main")
        else {
            panic!("it is one")
        };
        let urls: Vec<_> = sentinels.iter().map(|url| url.reveal().as_str()).collect();
        assert_eq!(urls, ["rediss://a:1", "rediss://b:2"]);
        assert_eq!(
            (name.as_str(), primary.reveal().as_str()),
            ("main", "rediss://u:p@{}")
        );
        assert_eq!(filled(&primary, "::1", 7).reveal(), "rediss://u:p@[::1]:7");
        let Ok(Place::Cluster { seeds, tag, .. }) = read("redis+cluster://p@x:1,y:2") else {
            panic!("it is one")
        };
        assert_eq!((seeds.len(), tag.as_str()), (2, "vb3"));
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_is_missing() {
        for (url, error) in [
            ("http://h", PlaceError::Scheme),
            ("h:6379", PlaceError::Scheme),
            ("redis+ring://h:1", PlaceError::Scheme),
            ("redis://a:1,b:2", PlaceError::Host),
            ("redis+cluster://", PlaceError::Host),
            ("redis+sentinel://a:1", PlaceError::Name),
        ] {
            assert_eq!(Place::parse(url, "t").unwrap_err(), error, "{url}");
        }
    }
}

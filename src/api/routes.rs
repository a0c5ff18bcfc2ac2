//! Every path and what may be done there: one table.
//!
//! [`Api::respond`](super::Api::respond) knows only paths that are here, the answer 405 says what is
//! here, and a test holds `openapi.json` to it.

use http::Method;

use crate::telemetry::labels::Route;

/// A path of the interface.
pub(super) struct Path {
    /// Its segments; `{…}` stands for any one.
    pub(super) template: &'static str,
    /// What may be done there.
    pub(super) methods: &'static [Method],
    /// What it counts as.
    pub(super) route: Route,
}

const fn path(template: &'static str, methods: &'static [Method], route: Route) -> Path {
    Path {
        template,
        methods,
        route,
    }
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

/// All of them.
pub(super) static PATHS: &[Path] = &[
    path("/api/signup", &[POST], Route::Accounts),
    path("/api/login", &[POST], Route::Accounts),
    path("/api/logout", &[POST], Route::Accounts),
    path("/api/sessions", &[GET], Route::Accounts),
    path("/api/sessions/{id}", &[DELETE], Route::Accounts),
    path("/api/profile", &[GET, PATCH], Route::Users),
    path("/api/users/{id}", &[GET], Route::Users),
    path("/api/users/{id}/ban", &[POST, DELETE], Route::Users),
    path("/api/conversations", &[GET, POST], Route::Conversations),
    path("/api/conversations/{id}", &[GET], Route::Conversations),
    path(
        "/api/conversations/{id}/members",
        &[GET, POST],
        Route::Conversations,
    ),
    path(
        "/api/conversations/{id}/members/{userId}",
        &[PATCH, DELETE],
        Route::Conversations,
    ),
    path("/api/conversations/{id}/messages", &[GET], Route::History),
    path(
        "/api/conversations/{id}/read",
        &[POST],
        Route::Conversations,
    ),
    path("/api/messages", &[POST], Route::Messages),
    path("/api/messages/{id}", &[PATCH, DELETE], Route::Messages),
    path(
        "/api/messages/{id}/reactions",
        &[GET, POST, DELETE],
        Route::Messages,
    ),
    path(
        "/api/notifications",
        &[GET, POST, PATCH],
        Route::Notifications,
    ),
    path("/api/connections", &[GET, POST], Route::Connections),
    path("/api/connections/{id}", &[PATCH], Route::Connections),
    path(
        "/api/courses/{id}/members",
        &[GET, POST, DELETE],
        Route::Groups,
    ),
    path(
        "/api/buildings/{id}/members",
        &[GET, POST, DELETE],
        Route::Groups,
    ),
    path("/api/presence", &[GET], Route::Presence),
    path(
        "/api/records/{kind}/{id}",
        &[GET, PUT, DELETE],
        Route::Records,
    ),
    path("/api/rooms/{room}/sockets", &[GET, DELETE], Route::Rooms),
    path("/api/events", &[POST], Route::Events),
    path("/api/openapi.json", &[GET], Route::Api),
    path("/api/development/token", &[POST], Route::Api),
];

/// The path that these segments are.
pub(super) fn find(segments: &[&str]) -> Option<&'static Path> {
    PATHS.iter().find(|path| {
        let mut template = path.template.trim_start_matches('/').split('/');
        let is_same = |own: &str, given: &str| own == given || own.starts_with('{');
        segments
            .iter()
            .all(|given| template.next().is_some_and(|own| is_same(own, given)))
            && template.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_find_their_path() {
        let found = |path: &str| {
            let segments: Vec<&str> = path.split('/').collect();
            find(&segments).map(|path| path.template)
        };
        assert_eq!(found("api/messages"), Some("/api/messages"));
        assert_eq!(found("api/messages/7"), Some("/api/messages/{id}"));
        assert_eq!(
            found("api/conversations/7/members/ann"),
            Some("/api/conversations/{id}/members/{userId}")
        );
        for unknown in [
            "",
            "api",
            "api/nothing",
            "api/messages/7/8",
            "api/conversations/7/members/ann/x",
        ] {
            assert_eq!(found(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_description_names_every_path_and_method_and_no_other() {
        let text = include_str!("openapi.json");
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut described: Vec<(String, String)> = Vec::new();
        for (template, item) in document["paths"].as_object().unwrap() {
            let operations = item.as_object().unwrap().keys();
            let methods =
                operations.filter(|key| !matches!(key.as_str(), "parameters" | "summary"));
            described.extend(methods.map(|method| (template.clone(), method.to_uppercase())));
        }
        described.sort();
        let mut served: Vec<(String, String)> = PATHS
            .iter()
            .flat_map(|path| {
                let own = path.methods.iter();
                own.map(|method| (path.template.to_owned(), method.to_string()))
            })
            .collect();
        served.sort();
        assert_eq!(described, served);
    }
}

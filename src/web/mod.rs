//! The page at `/`: a chat on the official Socket.IO client, as a product would show it.
//!
//! Everything is compiled in, so the page needs no files beside the program, and nothing is loaded
//! from anywhere else: the content security policy allows the page's own origin and nothing inline.
//! The page learns from one `meta` tag whether this node gives development tokens. Its scripts are
//! small modules (one of them is the client helper of `client/`); the page names all of them, so that a browser fetches them at once instead of
//! finding one in the other. Where the browser takes it, what it gets is packed (gzip), once for all.
//!
//! Not here: accounts, lists and history (`api`) and the socket (`transport`), which the page uses
//! like any other client.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use sha2::{Digest, Sha256};

/// `connect-src 'self'` covers the WebSocket too: the scheme follows the page's, the host is equal.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
     frame-ancestors 'none'; form-action 'self'";

/// The addresses do not change with the content, so a browser asks each time and mostly hears 304.
const CACHE_CONTROL: &str = "no-cache";

/// What the page holds, and what a node in development mode serves in its place.
const MODE_TOKEN: &str = r#"name="vestibule-mode" content="token""#;
const MODE_DEVELOPMENT: &str = r#"name="vestibule-mode" content="development""#;

/// The one script that is no module: it runs before anything is drawn.
const THEME: &str = "/assets/theme.js";
/// What the page holds in place of the names of its modules.
const MODULES: &str = "<!-- modules -->";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Entity tags need to differ between versions, not to withstand attack.
const ETAG_BYTES: usize = 12;

struct Asset {
    path: &'static str,
    content_type: &'static str,
    plain: Variant,
    gzip: Variant,
}

/// A file in one encoding.
struct Variant {
    body: Bytes,
    etag: String,
}

impl Asset {
    fn new(path: &'static str, content_type: &'static str, body: Bytes) -> Self {
        let digest = Sha256::digest(&body);
        let mut tag = String::new();
        for byte in &digest[..ETAG_BYTES] {
            write!(tag, "{byte:02x}").expect("writing to a String does not fail");
        }
        Self {
            path,
            content_type,
            gzip: Variant {
                body: packed(&body),
                etag: format!("\"{tag}-gzip\""),
            },
            plain: Variant {
                body,
                etag: format!("\"{tag}\""),
            },
        }
    }
}

fn packed(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("writing to a Vec does not fail")
        .into()
}

macro_rules! asset {
    ($file:literal, $content_type:expr) => {
        Asset::new(
            concat!("/assets/", $file),
            $content_type,
            Bytes::from_static(include_bytes!(concat!("assets/", $file))),
        )
    };
}

static ASSETS: LazyLock<[Asset; 32]> = LazyLock::new(|| {
    [
        asset!("app.js", SCRIPT),
        asset!("api.js", SCRIPT),
        asset!("conversation.js", SCRIPT),
        asset!("dom.js", SCRIPT),
        asset!("format.js", SCRIPT),
        asset!("outgoing.js", SCRIPT),
        asset!("page.js", SCRIPT),
        asset!("rooms.js", SCRIPT),
        asset!("socket.js", SCRIPT),
        asset!("store.js", SCRIPT),
        asset!("visit.js", SCRIPT),
        asset!("views/account.js", SCRIPT),
        asset!("views/create.js", SCRIPT),
        asset!("views/details.js", SCRIPT),
        asset!("views/dialogs.js", SCRIPT),
        asset!("views/door.js", SCRIPT),
        asset!("views/list.js", SCRIPT),
        asset!("views/log.js", SCRIPT),
        asset!("views/mention.js", SCRIPT),
        asset!("views/message.js", SCRIPT),
        asset!("views/notices.js", SCRIPT),
        asset!("views/thread.js", SCRIPT),
        asset!("views/toasts.js", SCRIPT),
        asset!("socket.io.esm.min.js", SCRIPT),
        Asset::new(
            "/assets/vestibule.js",
            SCRIPT,
            Bytes::from_static(include_bytes!("../../client/vestibule.js")),
        ),
        asset!("theme.js", SCRIPT),
        asset!("base.css", STYLE),
        asset!("chat.css", STYLE),
        asset!("door.css", STYLE),
        asset!("log.css", STYLE),
        asset!("favicon.svg", SVG),
        asset!("THIRD-PARTY.txt", TEXT),
    ]
});

static PAGE: LazyLock<Asset> = LazyLock::new(|| page(MODE_TOKEN));
static PAGE_IN_DEVELOPMENT: LazyLock<Asset> = LazyLock::new(|| page(MODE_DEVELOPMENT));

/// The page in one of its modes, with the names of its modules.
fn page(mode: &str) -> Asset {
    let mut modules = String::new();
    let is_module = |asset: &&Asset| asset.content_type == SCRIPT && asset.path != THEME;
    for asset in ASSETS.iter().filter(is_module) {
        writeln!(
            modules,
            r#"<link rel="modulepreload" href="{}" />"#,
            asset.path
        )
        .expect("writing to a String does not fail");
    }
    let page = include_str!("assets/index.html")
        .replacen(MODE_TOKEN, mode, 1)
        .replacen(MODULES, modules.trim_end(), 1);
    Asset::new("/", HTML, Bytes::from(page))
}

/// Answers a request for the page or one of its files; `None` if the path is not one of them.
///
/// `asked` are the request's headers. `development` says whether this node gives development
/// tokens. A `HEAD` answer carries the length that a `GET` would have and no body.
#[must_use]
pub fn respond(
    method: &Method,
    path: &str,
    asked: &HeaderMap,
    development: bool,
) -> Option<Response<Bytes>> {
    let asset = find(path, development)?;
    let text = |name| asked.get(name).and_then(|value| value.to_str().ok());
    let is_packed = text(header::ACCEPT_ENCODING).is_some_and(takes_gzip);
    let variant = if is_packed { &asset.gzip } else { &asset.plain };
    let mut response = Response::new(Bytes::new());
    if method != Method::GET && method != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Some(response);
    }
    let headers = response.headers_mut();
    let etag = HeaderValue::from_str(&variant.etag).expect("an entity tag is hexadecimal");
    headers.insert(header::ETAG, etag);
    for (name, value) in [
        (header::CACHE_CONTROL, CACHE_CONTROL),
        (header::VARY, "accept-encoding"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if text(header::IF_NONE_MATCH).is_some_and(|tags| names(tags, &variant.etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(asset.content_type),
    );
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(variant.body.len()),
    );
    if method == Method::GET {
        *response.body_mut() = variant.body.clone();
    }
    Some(response)
}

fn find(path: &str, development: bool) -> Option<&'static Asset> {
    match path {
        "/" | "/index.html" if development => Some(&PAGE_IN_DEVELOPMENT),
        "/" | "/index.html" => Some(&PAGE),
        _ => ASSETS.iter().find(|asset| asset.path == path),
    }
}

/// True if `Accept-Encoding` names gzip and does not refuse it with a weight of 0.
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let weight = weight.trim().trim_start_matches("q=");
        let is_refused = weight.parse().is_ok_and(|weight: f32| weight <= 0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

/// True if a list of entity tags holds this one. Weak comparison, as `If-None-Match` wants it.
fn names(tags: &str, etag: &str) -> bool {
    tags.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Response<Bytes> {
        respond(&Method::GET, path, &HeaderMap::new(), true).unwrap()
    }

    fn asked(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn text(response: &Response<Bytes>) -> &str {
        std::str::from_utf8(response.body()).unwrap()
    }

    #[test]
    fn the_page_is_served_under_a_policy_that_allows_nothing_inline() {
        let page = get("/");
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(page.headers()[header::CONTENT_TYPE], HTML);
        assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        assert!(!policy.contains("unsafe"), "{policy}");
        for inline in ["style=\"", "<style", "onclick", "javascript:"] {
            assert!(!text(&page).contains(inline), "{inline}");
        }
    }

    #[test]
    fn every_file_that_the_page_and_its_scripts_name_is_served() {
        let mut missing = Vec::new();
        let mut named = 0;
        for asset in ASSETS
            .iter()
            .chain([&*PAGE])
            .filter(|asset| !asset.path.contains("min.js"))
        {
            let body = std::str::from_utf8(&asset.plain.body).unwrap();
            let folder = asset.path.rsplit_once('/').unwrap().0;
            for part in body.split(['"', '\'']) {
                let path = match (part.strip_prefix("./"), part.strip_prefix("../")) {
                    (Some(file), _) if file.ends_with(".js") => format!("{folder}/{file}"),
                    (_, Some(file)) if file.ends_with(".js") => format!("/assets/{file}"),
                    _ if part.starts_with("/assets/") => part.to_owned(),
                    _ => continue,
                };
                named += 1;
                if respond(&Method::GET, &path, &HeaderMap::new(), false).is_none() {
                    missing.push(path);
                }
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
        assert!(named >= ASSETS.len(), "only {named} names were found");
    }

    #[test]
    fn every_file_in_the_folder_is_served_and_every_module_is_named_by_the_page() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/assets");
        let page = get("/");
        let mut count = 0;
        for sub in ["", "views/"] {
            for entry in std::fs::read_dir(format!("{folder}/{sub}")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name == "views" || name == "index.html" {
                    continue;
                }
                let path = format!("/assets/{sub}{name}");
                assert_eq!(get(&path).status(), StatusCode::OK, "{path}");
                if name.ends_with(".js") {
                    assert!(text(&page).contains(&path), "the page does not name {path}");
                }
                count += 1;
            }
        }
        // The client helper is kept in `client/`.
        assert_eq!(count + 1, ASSETS.len());
    }

    #[test]
    fn only_a_development_node_offers_names_without_tokens() {
        assert!(text(&get("/")).contains(MODE_DEVELOPMENT));
        let strict = respond(&Method::GET, "/", &HeaderMap::new(), false).unwrap();
        assert!(text(&strict).contains(MODE_TOKEN));
        assert!(!text(&strict).contains(MODE_DEVELOPMENT));
        assert_ne!(
            strict.headers()[header::ETAG],
            get("/").headers()[header::ETAG]
        );
    }

    #[test]
    fn a_known_entity_tag_is_answered_without_a_body() {
        let etag = get("/assets/app.js").headers()[header::ETAG]
            .to_str()
            .unwrap()
            .to_owned();
        for tags in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
            let tags = asked(header::IF_NONE_MATCH, &tags);
            let answer = respond(&Method::GET, "/assets/app.js", &tags, true).unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{tags:?}");
            assert!(answer.body().is_empty());
        }
        let other = asked(header::IF_NONE_MATCH, "\"x\"");
        let answer = respond(&Method::GET, "/assets/app.js", &other, true).unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }

    #[test]
    fn who_takes_gzip_gets_it_and_the_page_weighs_little() {
        for (accepted, is_packed) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("identity", false),
            ("gzip;q=0, br", false),
            ("xgzip", false),
        ] {
            let headers = asked(header::ACCEPT_ENCODING, accepted);
            let answer = respond(&Method::GET, "/assets/app.js", &headers, true).unwrap();
            let encoding = answer.headers().get(header::CONTENT_ENCODING);
            assert_eq!(encoding.is_some(), is_packed, "{accepted}");
            assert_eq!(answer.headers()[header::VARY], "accept-encoding");
            let length = answer.body().len().to_string();
            assert_eq!(answer.headers()[header::CONTENT_LENGTH], length);
            let plain = get("/assets/app.js");
            let is_same_tag = answer.headers()[header::ETAG] == plain.headers()[header::ETAG];
            assert_eq!(is_same_tag, !is_packed, "{accepted}");
        }
        let own = |asset: &&Asset| !asset.path.contains("socket.io");
        let files = ASSETS.iter().filter(own).chain([&*PAGE]);
        let sent: usize = files.map(|asset| asset.gzip.body.len()).sum();
        assert!(sent < 80 << 10, "{sent} bytes");
    }

    #[test]
    fn other_methods_are_refused_and_other_paths_left_to_others() {
        let head = respond(&Method::HEAD, "/", &HeaderMap::new(), true).unwrap();
        assert!(head.body().is_empty());
        assert_eq!(
            head.headers()[header::CONTENT_LENGTH],
            get("/").headers()["content-length"]
        );
        let post = respond(&Method::POST, "/", &HeaderMap::new(), true).unwrap();
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(post.headers()[header::ALLOW], "GET, HEAD");
        for path in [
            "",
            "/assets/",
            "/assets/../mod.rs",
            "/api/messages",
            "/assets/app.js/",
        ] {
            assert!(
                respond(&Method::GET, path, &HeaderMap::new(), true).is_none(),
                "{path}"
            );
        }
    }

    #[test]
    fn the_vendored_client_keeps_its_licence_and_names_no_source_map() {
        let client = get("/assets/socket.io.esm.min.js");
        assert!(text(&client).starts_with("/*!\n * Socket.IO v4"));
        assert!(text(&client).contains("MIT License"));
        assert!(!text(&client).contains("sourceMappingURL"));
        assert!(text(&get("/assets/THIRD-PARTY.txt")).contains("The MIT License (MIT)"));
    }
}

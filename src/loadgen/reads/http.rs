//! One connection to the server, kept.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

/// A connection, opened anew when it was closed.
pub(super) struct Link {
    server: SocketAddr,
    host: HeaderValue,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    /// The value of `Authorization`.
    pub(super) bearer: Option<HeaderValue>,
    pub(super) body: Bytes,
}

impl Question {
    /// A GET by who this names.
    pub(super) fn get(path: String, bearer: &HeaderValue) -> Self {
        Self {
            method: Method::GET,
            path,
            bearer: Some(bearer.clone()),
            body: Bytes::new(),
        }
    }

    /// A POST of JSON.
    pub(super) fn post(path: &str, bearer: Option<&HeaderValue>, json: &serde_json::Value) -> Self {
        Self {
            method: Method::POST,
            path: path.to_owned(),
            bearer: bearer.cloned(),
            body: Bytes::from(json.to_string()),
        }
    }
}

impl Link {
    pub(super) fn new(server: SocketAddr) -> Self {
        let host = HeaderValue::from_str(&server.to_string());
        Self {
            server,
            host: host.expect("an address is ASCII"),
            sender: None,
        }
    }

    /// Asks and reads the whole answer.
    pub(super) async fn ask(&mut self, question: Question) -> Result<(StatusCode, Bytes), String> {
        let answer = self.try_ask(question).await;
        if answer.is_err() {
            self.sender = None;
        }
        answer.map_err(|error| error.to_string())
    }

    async fn try_ask(
        &mut self,
        question: Question,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error>> {
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.open().await?,
        };
        sender.ready().await?;
        let mut request = Request::new(Full::new(question.body));
        *request.method_mut() = question.method;
        *request.uri_mut() = question.path.parse()?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        if let Some(bearer) = question.bearer {
            headers.insert(AUTHORIZATION, bearer);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        self.sender = Some(sender);
        Ok((status, body))
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(self.server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the sender.
        drop(spawn_local(connection));
        Ok(sender)
    }
}

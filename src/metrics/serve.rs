//! The listener for scrapes: HTTP/1.1, one path, read only.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, error, warn};

use super::Exporter;

/// How many may scrape at the same time. Who comes besides is sent away.
const SCRAPES: usize = 4;

/// How long one may take, its sending and reading included.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the head of a request may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long to wait after the system could not accept: there are too many files, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers `GET /metrics` until it is dropped.
pub async fn serve(listener: TcpListener, exporter: Exporter) {
    let exporter = Arc::new(exporter);
    let mut scrapes = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = scrapes.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a scrape could not be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        if scrapes.len() >= SCRAPES {
            debug!(%peer, "too many scrapes at once");
            continue;
        }
        let exporter = Arc::clone(&exporter);
        scrapes.spawn(async move {
            if timeout(LIMIT, connection(stream, &exporter)).await.is_err() {
                debug!(%peer, "a scrape took too long");
            }
        });
    }
}

async fn connection(stream: TcpStream, exporter: &Exporter) {
    let service = service_fn(|request| answer(request, exporter));
    let done = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = done {
        debug!(%error, "a scrape ended early");
    }
}

async fn answer(
    request: Request<Incoming>,
    exporter: &Exporter,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let say = |status, text: &'static str| (status, Bytes::from_static(text.as_bytes()));
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match exporter.text().await {
            Ok(text) => (StatusCode::OK, text.into()),
            Err(error) => {
                error!(%error, "the metrics could not be made");
                say(StatusCode::INTERNAL_SERVER_ERROR, "see the log\n")
            }
        },
        (_, "/metrics") => say(StatusCode::METHOD_NOT_ALLOWED, "GET it\n"),
        _ => say(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = if status == StatusCode::OK {
        prometheus::TEXT_FORMAT
    } else {
        "text/plain; charset=utf-8"
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

//! The requests.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use selfcls_export::{Classifier, Error, Prediction};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Classes in an answer.
const TOP: usize = 5;

/// What the service lets itself in for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests at a time.
    pub(crate) queue: usize,
    /// Bytes of a body.
    pub(crate) body: usize,
    /// How long a body may take.
    pub(crate) patience: Duration,
}

/// A classifier with its limits.
pub(crate) struct Service {
    classifier: Classifier,
    limits: Limits,
    places: Arc<Semaphore>,
}

impl Service {
    /// Serves `classifier`.
    pub(crate) fn new(classifier: Classifier, limits: Limits) -> Self {
        Self {
            classifier,
            limits,
            places: Arc::new(Semaphore::new(limits.queue)),
        }
    }

    /// What to do at which address.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/classify", post(classify))
            .route("/healthz", get(health))
            .with_state(self)
    }
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    let free = service.places.available_permits();
    let taken = service.limits.queue.saturating_sub(free);
    answer(
        StatusCode::OK,
        &json!({"engine": service.classifier.runs_on(), "requests": taken, "queue": service.limits.queue}),
    )
}

async fn classify(State(service): State<Arc<Service>>, request: Request<Body>) -> Response {
    // A place before the body is read: what is taken in has to be kept somewhere.
    let Ok(place) = Arc::clone(&service.places).try_acquire_owned() else {
        let full = failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "all places are taken; come back soon",
        );
        return ([(header::RETRY_AFTER, "1")], full).into_response();
    };
    let limit = service.limits.body;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return too_large(limit);
    }
    let body = timeout(
        service.limits.patience,
        to_bytes(request.into_body(), limit),
    )
    .await;
    let bytes = match body {
        Ok(Ok(bytes)) => bytes,
        // Larger than it said, or than can be said.
        Ok(Err(_)) => return too_large(limit),
        Err(_) => {
            return failure(
                StatusCode::REQUEST_TIMEOUT,
                "the image did not come in time",
            );
        }
    };
    let work = move || {
        // Given back when the answer is there, also to nobody.
        let _place = place;
        match service.classifier.classify_bytes(&bytes) {
            Ok(prediction) => Ok(said(&prediction)),
            // The image's fault: it is none, or too large, and says how large.
            Err(Error::Core(error)) => Err((StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
            Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    };
    match spawn_blocking(work).await {
        Ok(Ok(value)) => answer(StatusCode::OK, &value),
        Ok(Err((status, message))) => failure(status, &message),
        Err(_) => failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the image could not be classified",
        ),
    }
}

fn said(prediction: &Prediction) -> Value {
    let ranked = prediction.top(TOP);
    let top: Vec<Value> = ranked
        .iter()
        .map(|candidate| {
            json!({
                "class": candidate.class,
                "name": candidate.name,
                "probability": candidate.probability,
            })
        })
        .collect();
    json!({
        "class": prediction.class(),
        "name": prediction.name(),
        "probability": prediction.confidence(),
        "top": top,
    })
}

fn too_large(limit: usize) -> Response {
    failure(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("the body is larger than {limit} bytes"),
    )
}

fn failure(status: StatusCode, message: &str) -> Response {
    answer(status, &json!({"error": message}))
}

fn answer(status: StatusCode, value: &Value) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, value.to_string()).into_response()
}

//! HTTP: routes, limits, and what every handler shares.

mod audit;
pub mod auth;
mod config;
mod extract;
mod fields;
mod health;
mod money;
mod organizations;
mod problem;
mod reads;
mod spend;
mod usage;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post, put};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use self::organizations::new_secret;
pub use self::problem::Problem;
use crate::node::Node;
use crate::owner::told;
use auth::Auth;

/// Largest body: a batch of 1,000 events of a usual size several times over (INTERFACES, Usage in).
pub const BODY_MAX: usize = 1024 * 1024;

/// How long requests may take to end once the server is told to stop; twice as long as a read may wait. A client that
/// sent half a request must not keep the server from stopping.
const GRACE: Duration = Duration::from_secs(10);

/// What every handler can reach.
#[derive(Clone, Debug)]
pub struct Api {
    pub(crate) node: Node,
    pub(crate) auth: Arc<Auth>,
    pub(crate) metrics: Option<PrometheusHandle>,
    /// What links to the platform's console begin with.
    pub(crate) console_url: Arc<str>,
}

/// All routes.
pub fn router(api: Api) -> Router {
    let organizations = Router::new()
        .route("/v1/organizations", post(organizations::register).get(organizations::list))
        .route("/v1/organizations/{org}", get(organizations::show))
        .route(
            "/v1/organizations/{org}/projects",
            post(organizations::create_project).get(organizations::projects),
        )
        .route(
            "/v1/organizations/{org}/projects/{project}/api-keys",
            post(organizations::issue_key).get(organizations::keys),
        )
        .route("/v1/organizations/{org}/recharges", post(money::recharge))
        .route("/v1/organizations/{org}/log", get(audit::audit_log))
        .route("/v1/organizations/{org}/balance", get(money::balance))
        .route("/v1/organizations/{org}/spend", get(spend::spend))
        .route("/v1/organizations/{org}/projects/{project}/budgets", get(spend::budgets));
    let operator = Router::new()
        .route("/v1/config/prices", put(config::publish_prices).get(config::prices))
        .route("/v1/config/billing-cycle", put(config::set_billing_cycle).get(config::billing_cycle))
        .route("/v1/tokens", post(config::issue_token).get(config::tokens))
        .route("/v1/tokens/{token}", delete(config::revoke_token))
        .route("/v1/api-keys/{key}", get(reads::find_key))
        .route("/v1/quarantine", get(reads::quarantine))
        .route("/v1/digest", get(reads::digest));
    let open = Router::new()
        .route("/v1/events", post(usage::events))
        .route("/api/v1/events", post(usage::events))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/", get(health::index));
    organizations
        .merge(operator)
        .merge(open)
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(api)
}

/// Serves until told to stop, and then until every request that has begun is answered, within 10 s.
pub async fn serve(listener: TcpListener, api: Api, stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let mut stopping = stop.clone();
    let mut late = stop;
    let serving =
        axum::serve(listener, router(api)).with_graceful_shutdown(async move { told(&mut stopping).await });
    let patience = async {
        told(&mut late).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = serving.into_future() => result,
        () = patience => {
            tracing::warn!("stopping in spite of requests that do not end");
            Ok(())
        }
    }
}

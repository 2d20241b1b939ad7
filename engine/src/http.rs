//! HTTP: routes, limits, and what every handler shares.

mod accept;
pub(crate) mod admissions;
pub mod auth;
mod body;
mod fields;
mod path;
mod problem;
mod rate_scale;
mod reading;
mod refusal;
mod strict;
mod write;

mod answer;
mod document;
mod kinds;
mod shape;
mod values;

mod adjustments;
pub(crate) mod alert_stream;
mod alert_subscriptions;
mod alerts;
mod allowlist;
mod audit;
mod balance_alert;
mod booked;
mod breaches;
mod budgets;
mod config;
mod customer;
mod deliveries;
mod digest;
mod health;
mod invitations;
mod invoices;
mod keys;
mod limits;
mod members;
mod money;
mod moving_in;
mod organizations;
mod policies;
mod prices;
mod projects;
mod quarantine;
mod recharges;
mod refunds;
mod secret;
mod spend;
mod spend_notifications;
mod statement;
mod tiers;
mod tokens;
mod trial_balance;
mod usage;
mod usage_record;
mod usage_records;
mod vouchers;
mod webhooks;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::{Extension, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::auth::Auth;
use self::document::{Document, Routes};
pub use self::problem::Problem;
pub use self::secret::new_secret;
pub use self::statement::statement_json;
use crate::node::Node;
use crate::owner::told;

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
    /// What links to the platform's console begin with, if it is known where that is.
    pub(crate) console_url: Option<Arc<str>>,
    pub(crate) streams: alert_stream::Streams,
}

/// Every route, registered with what describes it; families in the order of the document.
fn routes() -> Routes {
    let mut routes = Routes::new();
    organizations::routes(&mut routes);
    moving_in::routes(&mut routes);
    allowlist::routes(&mut routes);
    limits::routes(&mut routes);
    members::routes(&mut routes);
    invitations::routes(&mut routes);
    projects::routes(&mut routes);
    keys::routes(&mut routes);
    money::routes(&mut routes);
    balance_alert::routes(&mut routes);
    recharges::routes(&mut routes);
    refunds::routes(&mut routes);
    vouchers::routes(&mut routes);
    adjustments::routes(&mut routes);
    prices::routes_of_organizations(&mut routes);
    spend::routes(&mut routes);
    budgets::routes(&mut routes);
    breaches::routes(&mut routes);
    spend_notifications::routes(&mut routes);
    statement::routes(&mut routes);
    invoices::routes(&mut routes);
    prices::routes(&mut routes);
    tiers::routes(&mut routes);
    rate_scale::routes(&mut routes);
    policies::routes(&mut routes);
    config::routes(&mut routes);
    tokens::routes(&mut routes);
    alerts::routes(&mut routes);
    deliveries::routes(&mut routes);
    webhooks::routes(&mut routes);
    quarantine::routes(&mut routes);
    usage_records::routes(&mut routes);
    digest::routes(&mut routes);
    trial_balance::routes(&mut routes);
    usage::routes(&mut routes);
    admissions::routes(&mut routes);
    customer::routes(&mut routes);
    audit::routes(&mut routes);
    health::routes(&mut routes);
    routes
}

/// All routes, served.
pub fn router(api: Api) -> Router {
    let (router, document) = routes().finish();
    let document: Arc<str> = document::text(&document).into();
    router
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(Extension(Document(document)))
        .with_state(api)
}

/// Serves until told to stop, and then until every request that has begun is answered, within 10 s.
pub async fn serve(listener: TcpListener, api: Api, stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let mut stopping = stop.clone();
    let mut late = stop;
    // Whose connection it is, tells where a request comes from that no proxy has passed on.
    let service = router(api).into_make_service_with_connect_info::<SocketAddr>();
    let serving =
        axum::serve(listener, service).with_graceful_shutdown(async move { told(&mut stopping).await });
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

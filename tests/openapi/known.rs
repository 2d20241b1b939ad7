//! Things that are there for requests to name.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollbook_tests::system::Api;

/// Values that exist, by the schema that describes them, and positions that are in the log.
#[derive(Debug, Default)]
pub(crate) struct Known {
    schemas: BTreeMap<&'static str, Vec<String>>,
    positions: Vec<String>,
    /// Tokens of open invitations.
    invitations: Vec<String>,
    /// Organizations that may be erased or verified less.
    others: Vec<String>,
    /// A gateway's token.
    gateway: String,
}

impl Known {
    fn add(&mut self, schema: &'static str, made: &Value) -> String {
        let id = made["id"].as_str().unwrap().to_owned();
        self.schemas.entry(schema).or_default().push(id.clone());
        self.positions.extend(made["position"].as_str().map(str::to_owned));
        id
    }

    /// As the hooks of schemathesis read them.
    pub(crate) fn to_json(&self) -> Value {
        let needed = ["ProjectId", "MemberId", "ApiKeyId", "TokenId"].map(|schema| &self.schemas[schema][0]);
        json!({
            "schemas": self.schemas,
            "positions": self.positions,
            "invitations": self.invitations,
            "others": self.others,
            "gateway": self.gateway,
            "needed": needed,
        })
    }
}

/// Makes an organization whose enterprise verification is completed, with members of every role, projects and keys.
pub(crate) async fn made(api: &Api) -> Known {
    let mut known = Known { gateway: api.service_token(&["gateway"], None).await, ..Known::default() };
    let creator = json!({ "name": "Ada", "email": "ada@example.com" });
    let body = json!({ "name": "acme", "email": "billing@example.com", "creator": creator });
    let made = api.post("/v1/organizations", &body).await.expect(201);
    let org = known.add("OrganizationId", &made);
    let path = |rest: &str| format!("/v1/organizations/{org}/{rest}");
    known.add("MemberId", &made["creator"]);
    for level in ["verified", "enterprise_verified"] {
        api.post(&path("verification"), &json!({ "level": level })).await.expect(200);
    }
    let mut projects = Vec::new();
    for _ in 0..6 {
        let made = api.post(&path("projects"), &json!({ "name": "chat" })).await.expect(201);
        projects.push(known.add("ProjectId", &made));
    }
    let project = &projects[0];
    for role in ["administrator", "member"] {
        let invitation = api.post(&path("invitations"), &json!({ "role": role })).await.expect(201);
        known.add("InvitationId", &invitation);
        let body = json!({ "token": invitation["token"], "name": "Ben", "email": "ben@example.com" });
        let accepted = api.post("/v1/invitations/accept", &body).await.expect(201);
        let member = known.add("MemberId", &accepted["member"]);
        let body = json!({ "member": member, "role": role });
        api.post(&path(&format!("projects/{project}/members")), &body).await.expect(201);
    }
    for number in 0..8 {
        let invitation = api.post(&path("invitations"), &json!({ "role": "member" })).await.expect(201);
        known.add("InvitationId", &invitation);
        known.invitations.push(invitation["token"].as_str().unwrap().to_owned());
        let token = json!({ "name": format!("gateway {number}"), "scopes": ["gateway"] });
        known.add("TokenId", &api.post("/v1/tokens", &token).await.expect(201));
        known.others.push(api.organization("another").await);
    }
    for project in &projects {
        let keys = path(&format!("projects/{project}/api-keys"));
        known.add("ApiKeyId", &api.post(&keys, &json!({ "name": "production" })).await.expect(201));
    }
    api.prices(&org, "1", "0.5", "2").await;
    let reference = json!({ "amount": "100", "reference": "first" });
    known.add("RechargeId", &api.post(&path("recharges"), &reference).await.expect(201));
    let used = |id: &str, key: &str| {
        json!({
            "specversion": "1.0", "id": id, "source": "test", "type": "tollbook.usage.v1", "subject": org,
            "data": { "api_key_id": key, "model": org, "input_tokens": 100, "output_tokens": 10 },
        })
    };
    // The second one is quarantined.
    api.events(&[used("1", &known.schemas["ApiKeyId"][0]), used("2", "ak_unknown")]).await;
    known
}

//! R3 over HTTP: who joins, who may do what on whose behalf, and what goes with whom.

use serde_json::{Value, json};
use tollbook_tests::system::{Api, System};

/// An organization with somebody in every role.
struct Team {
    org: String,
    project: String,
    creator: String,
    administrator: String,
    member: String,
    lead: String,
    developer: String,
}

impl Team {
    async fn of(api: &Api) -> Self {
        let creator = json!({ "name": "Cleo", "email": "cleo@example.com" });
        let body = json!({ "name": "Acme", "email": "billing@example.com", "creator": creator });
        let registered = api.post("/v1/organizations", &body).await.expect(201);
        let org = registered["id"].as_str().unwrap().to_owned();
        let level = json!({ "level": "enterprise_verified" });
        api.post(&format!("/v1/organizations/{org}/verification"), &level).await.expect(200);
        let project = api.project(&org).await;
        let in_project = |role: &str| json!([{ "project": project, "role": role }]);
        let administrator = join(api, &org, "Ada", "administrator", json!([])).await;
        let member = join(api, &org, "Mia", "member", json!([])).await;
        let lead = join(api, &org, "Lea", "member", in_project("administrator")).await;
        let developer = join(api, &org, "Dan", "member", in_project("member")).await;
        let creator = registered["creator"]["id"].as_str().unwrap().to_owned();
        Self { org, project, creator, administrator, member, lead, developer }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/organizations/{}{}", self.org, rest.replace("{project}", &self.project))
    }
}

/// Invites somebody who accepts; the new member's id.
async fn join(api: &Api, org: &str, name: &str, role: &str, projects: Value) -> String {
    let body = json!({ "role": role, "projects": projects });
    let invited = api.post(&format!("/v1/organizations/{org}/invitations"), &body).await.expect(201);
    let email = format!("{}@example.com", name.to_lowercase());
    let body = json!({ "token": invited["token"], "name": name, "email": email });
    let accepted = api.post("/v1/invitations/accept", &body).await.expect(201);
    accepted["member"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn r3_everybody_may_over_http_what_the_table_says() {
    let system = System::start().await;
    let team = Team::of(&system.api).await;
    let console = system.api.with_token(&system.api.service_token(&["console"], None).await);
    let people = [&team.creator, &team.administrator, &team.member, &team.lead, &team.developer];
    // In the order of the table's columns; each row can be asked again and again.
    let rows: [(&str, &str, Value, [bool; 5]); 21] = [
        ("GET", "", json!({}), [true, true, true, true, true]),
        ("GET", "/ip-allowlist", json!({}), [true, true, false, false, false]),
        ("PUT", "/ip-allowlist", json!({ "text": "203.0.113.4" }), [true, true, false, false, false]),
        ("GET", "/members", json!({}), [true, true, false, false, false]),
        ("GET", "/invitations", json!({}), [true, true, false, false, false]),
        ("POST", "/invitations", json!({ "role": "member" }), [true, true, false, false, false]),
        ("GET", "/balance", json!({}), [true, true, false, false, false]),
        ("GET", "/limits", json!({}), [true, true, false, false, false]),
        ("GET", "/spend", json!({}), [true, true, false, false, false]),
        ("GET", "/quarantine", json!({}), [true, true, false, false, false]),
        ("GET", "/usage-records?place=0-1.0", json!({}), [true, true, false, false, false]),
        ("GET", "/log", json!({}), [true, true, false, false, false]),
        ("PATCH", "", json!({ "name": "Acme" }), [true, true, false, false, false]),
        ("POST", "/projects", json!({ "name": "more" }), [true, true, false, false, false]),
        ("GET", "/projects/{project}", json!({}), [true, true, true, true, true]),
        ("GET", "/projects/{project}/members", json!({}), [true, true, false, true, true]),
        ("GET", "/projects/{project}/spend", json!({}), [true, true, false, true, true]),
        ("PUT", "/projects/{project}/tpm", json!({ "limit": 7 }), [true, true, false, true, false]),
        ("POST", "/projects/{project}/api-keys", json!({ "name": "mine" }), [true, true, false, true, true]),
        // The platform's, whoever asks.
        ("POST", "/usage-reversals", json!({ "usage": "0-1.0", "reason": "r" }), [false; 5]),
        ("POST", "/verification", json!({ "level": "verified" }), [false; 5]),
    ];
    for (method, path, body, allowed) in rows {
        for (person, allowed) in people.iter().zip(allowed) {
            let api = console.acting(person);
            let request = api.request(method, &team.path(path));
            let request = if method == "GET" { request } else { request.json(&body) };
            let answer = api.send(request).await;
            let what = format!("{method} {path} by {person}: {}", answer.text);
            if allowed {
                assert!([200, 201].contains(&answer.status), "{what}");
            } else {
                assert_eq!(answer.refused(403), "role_missing", "{what}");
            }
        }
        let stranger = console.acting("mem_stranger");
        let request = stranger.request(method, &team.path(path));
        let request = if method == "GET" { request } else { request.json(&body) };
        assert_eq!(stranger.send(request).await.refused(403), "not_a_member", "{method} {path}");
    }
    assert_eq!(console.get(&team.path("")).await.refused(403), "actor_missing");
    // Addresses are for administrators.
    let seen = console.acting(&team.member).get(&team.path("")).await.expect(200);
    assert_eq!((&seen["email"], &seen["creator"]["email"]), (&Value::Null, &Value::Null));
    let seen = console.acting(&team.administrator).get(&team.path("")).await.expect(200);
    assert_eq!(seen["creator"]["email"], "cleo@example.com");
    // Figures of a project are for its members.
    let path = team.path("/projects/{project}");
    for (person, figures) in people.iter().zip([true, true, false, true, true]) {
        let api = console.acting(person);
        let shown = api.get(&path).await.expect(200);
        let listed = api.all(&team.path("/projects")).await;
        assert_eq!(listed.iter().find(|project| project["id"] == shown["id"]), Some(&shown), "{person}");
        assert_eq!(shown["tpm_limit"], if figures { json!(7) } else { Value::Null }, "{person}");
        assert_eq!(shown["budgets"].is_object(), figures, "{person}");
        assert!(shown.get("budgets").is_some() && shown["name"].is_string(), "{person}: {shown}");
    }
    // The log names the member and the console.
    let log = system.api.all(&team.path("/log")).await;
    let renamed = |item: &&Value| item["events"][0]["type"] == "organization.ip_allowlist_saved";
    let by = &log.iter().find(renamed).unwrap()["actor"];
    assert_eq!((&by["kind"], &by["member"]), (&json!("member"), &json!(team.creator)));
    assert!(by["token"].as_str().unwrap().starts_with("tok_"));
}

impl Team {
    /// A text of a row with something new in each place, as it can be removed only once.
    async fn renewed(&self, api: &Api, person: &str, text: &str) -> String {
        let mut text = text.replace("{project}", &self.project);
        let keys = self.path("/projects/{project}/api-keys");
        for (place, owner) in [("{key}", &self.creator), ("{own key}", &person.to_owned())] {
            if text.contains(place) {
                // Whoever is not in the project has none there.
                let owner = if *owner == self.member { &self.creator } else { owner };
                let key = api.post(&keys, &json!({ "name": "k", "member": owner })).await.expect(201);
                text = text.replace(place, key["id"].as_str().unwrap());
            }
        }
        for (place, projects) in [
            ("{newcomer}", json!([])),
            ("{project newcomer}", json!([{ "project": self.project, "role": "member" }])),
        ] {
            if text.contains(place) {
                text = text.replace(place, &join(api, &self.org, "New", "member", projects).await);
            }
        }
        for (place, path, body) in [
            ("{invitation}", "/invitations", json!({ "role": "member" })),
            ("{new project}", "/projects", json!({ "name": "passing" })),
        ] {
            if text.contains(place) {
                let made = api.post(&self.path(path), &body).await.expect(201);
                text = text.replace(place, made["id"].as_str().unwrap());
            }
        }
        text
    }
}

#[tokio::test]
async fn r3_everybody_may_remove_over_http_what_the_table_says() {
    let system = System::start().await;
    let api = &system.api;
    let team = Team::of(api).await;
    let console = api.with_token(&api.service_token(&["console"], None).await);
    let people = [&team.creator, &team.administrator, &team.member, &team.lead, &team.developer];
    let rows: [(&str, &str, Value, [bool; 5]); 15] = [
        ("GET", "/projects", json!({}), [true; 5]),
        ("GET", "/projects/{project}/api-keys", json!({}), [true, true, false, true, true]),
        ("GET", "/projects/{project}/budgets", json!({}), [true, true, false, true, true]),
        ("PATCH", "/projects/{project}", json!({ "name": "web" }), [true, true, false, true, false]),
        ("DELETE", "/projects/{new project}", json!({}), [true, true, false, false, false]),
        ("DELETE", "/projects/{project}/api-keys/{key}", json!({}), [true, true, false, true, false]),
        ("DELETE", "/projects/{project}/api-keys/{own key}", json!({}), [true, true, false, true, true]),
        (
            "PATCH",
            "/members/{newcomer}",
            json!({ "role": "administrator" }),
            [true, true, false, false, false],
        ),
        ("DELETE", "/members/{newcomer}", json!({}), [true, true, false, false, false]),
        ("DELETE", "/invitations/{invitation}", json!({}), [true, true, false, false, false]),
        (
            "POST",
            "/projects/{project}/members",
            json!({ "member": "{newcomer}", "role": "member" }),
            [true, true, false, true, false],
        ),
        (
            "PATCH",
            "/projects/{project}/members/{project newcomer}",
            json!({ "role": "administrator" }),
            [true, true, false, true, false],
        ),
        (
            "DELETE",
            "/projects/{project}/members/{project newcomer}",
            json!({}),
            [true, true, false, true, false],
        ),
        // The platform's, whoever asks.
        ("DELETE", "/contacts", json!({}), [false; 5]),
        ("POST", "/recharges", json!({ "amount": "5", "reference": "pay-1" }), [false; 5]),
    ];
    for (method, path, body, allowed) in rows {
        for (person, allowed) in people.iter().zip(allowed) {
            let path = team.path(&team.renewed(api, person, path).await);
            let body = team.renewed(api, person, &body.to_string()).await;
            let ask = async |api: &Api| {
                let request = api.request(method, &path).header("content-type", "application/json");
                api.send(if method == "GET" { request } else { request.body(body.clone()) }).await
            };
            let stranger = ask(&console.acting("mem_stranger")).await;
            assert_eq!(stranger.refused(403), "not_a_member", "{method} {path}");
            let answer = ask(&console.acting(person)).await;
            let what = format!("{method} {path} by {person}: {}", answer.text);
            if allowed {
                assert!([200, 201].contains(&answer.status), "{what}");
            } else {
                assert_eq!(answer.refused(403), "role_missing", "{what}");
            }
        }
    }
    assert_eq!(api.balance(&team.org).await["cash"], "0", "nobody recharged it");
    let shown = console.acting(&team.creator).get(&team.path("")).await.expect(200);
    assert_eq!(shown["creator"]["name"], "Cleo", "nobody erased it");
}

#[tokio::test]
async fn r2_3_an_unverified_organization_has_no_allowlist_for_anybody() {
    let system = System::builder().arg("--console-url").arg("https://console.example.com/").start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let path = format!("/v1/organizations/{org}/ip-allowlist");
    let body = json!({ "text": "203.0.113.4" });
    assert_eq!(api.get(&path).await.refused(403), "verification_missing");
    assert_eq!(api.put(&path, &body).await.refused(403), "verification_missing");
    let invitations = format!("/v1/organizations/{org}/invitations");
    assert_eq!(
        api.post(&invitations, &json!({ "role": "member" })).await.refused(403),
        "verification_missing"
    );
    api.post(&format!("/v1/organizations/{org}/verification"), &json!({ "level": "verified" }))
        .await
        .expect(200);
    assert_eq!(api.put(&path, &body).await.expect(200)["entries"], json!(["203.0.113.4"]));
    assert_eq!(
        api.post(&invitations, &json!({ "role": "member" })).await.refused(403),
        "verification_missing"
    );
    // Every bad item, and the list stays as it was.
    let bad = api.put(&path, &json!({ "text": "8.8.8.8, 10.0.0.1\n::1 52.94.76.5/22" })).await;
    assert_eq!(bad.refused(400), "ip_allowlist_invalid");
    let faults: Vec<_> = bad.json()["errors"].as_array().unwrap().clone();
    let of = |fault: &Value| (fault["index"].clone(), fault["offset"].clone(), fault["value"].clone());
    assert_eq!(
        faults.iter().map(of).collect::<Vec<_>>(),
        [
            (json!(1), json!(9), json!("10.0.0.1")),
            (json!(2), json!(18), json!("::1")),
            (json!(3), json!(22), json!("52.94.76.5/22")),
        ]
    );
    assert!(faults[2]["reason"].as_str().unwrap().contains("52.94.76.0/22"), "{faults:?}");
    let codes: Vec<_> = faults.iter().map(|fault| fault["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["private", "ipv6", "host_bits"]);
    assert_eq!(api.get(&path).await.expect(200)["entries"], json!(["203.0.113.4"]));
    assert_eq!(api.put(&path, &json!({ "text": " \n" })).await.expect(200)["entries"], json!([]));
}

#[tokio::test]
async fn r3_3_an_invitation_works_once() {
    let system = System::builder().arg("--console-url").arg("https://console.example.com/").start().await;
    let api = &system.api;
    let team = Team::of(api).await;
    let invitations = team.path("/invitations");
    let body = json!({ "email": "new@example.com", "role": "member" });
    let keyed = || api.request("POST", &invitations).header("idempotency-key", "i").json(&body);
    let invited = api.send(keyed()).await.expect(201);
    let token = invited["token"].as_str().unwrap();
    assert_eq!(invited["link"], format!("https://console.example.com/invitations/accept#token={token}"));
    assert_eq!((&invited["state"], &invited["email"]), (&json!("open"), &json!("new@example.com")));
    let again = api.send(keyed()).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    let again = again.expect(201);
    assert_eq!((&again["id"], &again["position"]), (&invited["id"], &invited["position"]));
    assert!(again["token"].is_null() && again["link"].is_null(), "{again}");

    let accept = json!({ "token": token, "name": "New", "email": "new@example.com" });
    let console = api.with_token(&api.service_token(&["console"], None).await);
    let as_member = console.acting(&team.member).post("/v1/invitations/accept", &accept).await;
    assert_eq!(as_member.refused(403), "forbidden", "a newcomer is no member");
    let gateway = api.with_token(&api.service_token(&["gateway"], None).await);
    assert_eq!(gateway.post("/v1/invitations/accept", &accept).await.refused(403), "forbidden");
    let elsewhere = api.with_token(&api.service_token(&["console"], Some(&["org_other"])).await);
    assert_eq!(elsewhere.post("/v1/invitations/accept", &accept).await.refused(403), "forbidden");
    let forged = json!({ "token": format!("{token}x"), "name": "New", "email": "new@example.com" });
    assert_eq!(console.post("/v1/invitations/accept", &forged).await.refused(404), "invitation_not_found");

    let keyed =
        || console.request("POST", "/v1/invitations/accept").header("idempotency-key", "a").json(&accept);
    let accepted = console.send(keyed()).await.expect(201);
    assert_eq!(accepted["organization"], team.org.as_str());
    assert_eq!(accepted["member"]["name"], "New");
    let again = console.send(keyed()).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.expect(201), accepted);
    assert_eq!(console.post("/v1/invitations/accept", &accept).await.refused(422), "invitation_over");
    let listed = api.all(&invitations).await;
    let state = |id: &Value| listed.iter().find(|item| item["id"] == *id).unwrap()["state"].clone();
    assert_eq!(state(&invited["id"]), "accepted");

    let revocable = api.post(&invitations, &json!({ "role": "member" })).await.expect(201);
    let path = format!("{invitations}/{}", revocable["id"].as_str().unwrap());
    api.write("DELETE", &path, &json!({})).await.expect(200);
    let late = json!({ "token": revocable["token"], "name": "Late", "email": "late@example.com" });
    assert_eq!(console.post("/v1/invitations/accept", &late).await.refused(422), "invitation_over");
    api.write("DELETE", &path, &json!({})).await.expect(200);
}

#[tokio::test]
async fn r3_3_an_invitation_names_each_project_once_and_has_a_link_where_there_is_a_console() {
    let system = System::start().await;
    let api = &system.api;
    let team = Team::of(api).await;
    let invitations = team.path("/invitations");
    let invited = api.post(&invitations, &json!({ "role": "member" })).await.expect(201);
    assert!(invited["token"].as_str().unwrap().starts_with("invite-org_"), "{invited}");
    assert!(invited.get("link").is_none(), "nobody said where the console is: {invited}");

    let console = api.with_token(&api.service_token(&["console"], None).await);
    let into = |project: &str, role: &str| json!({ "project": project, "role": role });
    let twice =
        [into(&team.project, "member"), into("proj_2", "member"), into(&team.project, "administrator")];
    let refused = api.post(&invitations, &json!({ "role": "member", "projects": twice })).await;
    assert_eq!(refused.faults(), ["projects[2].project"]);
    // Whoever may not invite at all does not make the server think either.
    let many: Vec<_> = (0..22_000).map(|number| into(&format!("proj_{number}"), "member")).collect();
    for (count, fault) in [(1_001, Some("projects")), (22_000, Some("projects")), (1_000, None)] {
        let body = json!({ "role": "member", "projects": many[..count] });
        let answer = console.acting(&team.member).post(&invitations, &body).await;
        match fault {
            Some(field) => assert_eq!(answer.faults(), [field]),
            None => assert_eq!(answer.refused(403), "role_missing"),
        }
    }
}

#[tokio::test]
async fn lists_come_page_by_page() {
    let system = System::start().await;
    let api = &system.api;
    let team = Team::of(api).await;
    for name in ["one", "two"] {
        api.post(&team.path("/projects"), &json!({ "name": name })).await.expect(201);
        api.post(&team.path("/projects/{project}/api-keys"), &json!({ "name": name })).await.expect(201);
        api.post(&team.path("/invitations"), &json!({ "role": "member" })).await.expect(201);
    }
    for (path, id, count) in [
        ("/members", "id", 5),
        ("/invitations", "id", 6),
        ("/projects", "id", 3),
        ("/projects/{project}/api-keys", "id", 2),
        ("/projects/{project}/members", "member", 2),
    ] {
        let path = team.path(path);
        let all = api.get(&path).await.expect(200);
        assert_eq!(
            (all["items"].as_array().unwrap().len(), &all["next_page"]),
            (count, &Value::Null),
            "{path}"
        );
        let mut after = String::new();
        for (index, item) in all["items"].as_array().unwrap().iter().enumerate() {
            let page = api.get(&format!("{path}?limit=1{after}")).await.expect(200);
            let next = if index + 1 < count { item[id].clone() } else { Value::Null };
            assert_eq!(page, json!({ "items": [item], "next_page": next }), "{path}, {index}");
            after = format!("&after={}", item[id].as_str().unwrap());
        }
        let end = api.get(&format!("{path}?after=z")).await.expect(200);
        assert_eq!(end, json!({ "items": [], "next_page": null }), "{path}");
    }
}

#[tokio::test]
async fn r3_4_keys_go_with_their_member_in_one_entry() {
    let system = System::start().await;
    let api = &system.api;
    let team = Team::of(api).await;
    let keys = team.path("/projects/{project}/api-keys");
    let console = api.with_token(&api.service_token(&["console"], None).await);
    let mut issued = Vec::new();
    for person in [&team.developer, &team.developer, &team.lead] {
        let key = console.acting(person).post(&keys, &json!({ "name": "mine" })).await.expect(201);
        assert_eq!(key["member"], person.as_str());
        issued.push(key["id"].clone());
    }
    let of_another = json!({ "name": "theirs", "member": team.developer });
    assert_eq!(console.acting(&team.lead).post(&keys, &of_another).await.refused(403), "api_key_of_another");
    let others = format!("{keys}/{}", issued[2].as_str().unwrap());
    let refused = console.acting(&team.developer).write("DELETE", &others, &json!({})).await;
    assert_eq!(refused.refused(403), "role_missing", "members revoke only their own");

    let path = team.path(&format!("/projects/{{project}}/members/{}", team.developer));
    let removed = console.acting(&team.lead).write("DELETE", &path, &json!({})).await.expect(200);
    let mut gone: Vec<_> = removed["revoked_api_keys"].as_array().unwrap().clone();
    let mut theirs = issued[..2].to_vec();
    gone.sort_unstable_by_key(Value::to_string);
    theirs.sort_unstable_by_key(Value::to_string);
    assert_eq!(gone, theirs);
    let entry =
        api.all(&team.path("/log")).await.into_iter().find(|item| item["position"] == removed["position"]);
    let entry = entry.unwrap();
    assert_eq!(entry["events"].as_array().unwrap().len(), 3, "one entry: {entry}");
    for key in api.all(&keys).await {
        let revoked = issued[..2].contains(&key["id"]);
        assert_eq!(key["state"], if revoked { "revoked" } else { "active" }, "{key}");
    }
    assert_eq!(
        console.acting(&team.developer).post(&keys, &json!({ "name": "n" })).await.refused(403),
        "role_missing"
    );

    let path = team.path("/projects/{project}");
    let archived = console.acting(&team.administrator).write("DELETE", &path, &json!({})).await.expect(200);
    assert_eq!(archived["revoked_api_keys"], json!([issued[2]]));
    assert_eq!(api.post(&keys, &json!({ "name": "late" })).await.refused(422), "project_archived");
    let creator = team.path(&format!("/members/{}", team.creator));
    assert_eq!(api.write("DELETE", &creator, &json!({})).await.refused(422), "creator_stays");
    let demoted = api.write("PATCH", &creator, &json!({ "role": "member" })).await;
    assert_eq!(demoted.refused(422), "creator_stays");
}

#[tokio::test]
async fn r5_4_a_project_limit_is_clamped_and_said_so() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let project = api.project(&org).await;
    let path = format!("/v1/organizations/{org}/projects/{project}/tpm");
    let set = async |body: Value| {
        let mut answer = api.put(&path, &body).await.expect(200);
        answer.as_object_mut().unwrap().remove("position");
        answer
    };
    assert_eq!(
        set(json!({ "limit": 600_000 })).await,
        json!({ "limit": 600_000, "effective": 600_000, "clamped": false }),
        "below the first tier the organization has no limit"
    );
    api.recharge(&org, "1", "a").await;
    assert_eq!(
        set(json!({ "limit": 600_000 })).await,
        json!({ "limit": 600_000, "effective": 500_000, "clamped": true })
    );
    let overrides = format!("/v1/organizations/{org}/limits/override");
    let limits = api.post(&overrides, &json!({ "tpm": 900_000, "projects": 1 })).await.expect(200);
    assert_eq!((&limits["limits"]["tpm"], &limits["limits"]["rpm"]), (&json!(900_000), &json!(3)));
    assert_eq!(limits["quantities"]["projects"], json!({ "limit": 1, "used": 1 }));
    let refused = api.post(&format!("/v1/organizations/{org}/projects"), &json!({ "name": "more" })).await;
    assert_eq!(refused.refused(422), "project_limit");
    assert_eq!(set(json!({ "limit": 600_000 })).await["clamped"], false);
    let limits = api.post(&overrides, &json!({ "tpm": null })).await.expect(200);
    assert_eq!((&limits["limits"]["tpm"], &limits["overrides"]["projects"]), (&json!(500_000), &json!(1)));
    assert_eq!(set(json!({ "limit": null })).await["effective"], 500_000);
    assert_eq!(api.put(&path, &json!({})).await.faults(), ["limit"], "leaving it out removes nothing");
}

//! People and teams: importing a hierarchy, membership over time, and people who cannot sign in.

use landreeve_core::ids::OuId;
use landreeve_core::{OpCtx, Page, RunState};
use landreeve_delivery::changes::PullFacts;
use landreeve_delivery::deployments::DeploymentFacts;
use landreeve_delivery::people::{PersonFacts, person_by_github, person_list, person_update, person_upsert};
use landreeve_delivery::teams::{
    HierarchyPlan, TeamRef, WantedTeam, hierarchy_get, hierarchy_preview, hierarchy_process, team_events,
    team_get, team_list, team_of_members,
};

use crate::support::{DAY, World, deployed, merged, minute, own, sha};

conformance![
    a_hierarchy_is_previewed_and_imported,
    teams_are_archived_and_restored,
    rejects_invalid_hierarchies,
    every_change_is_recorded,
    a_change_stays_with_the_team_of_its_time,
    a_person_is_not_a_user,
    a_name_belongs_to_one_person,
    a_name_that_is_taken_back_takes_its_changes,
    a_lead_that_changes_is_an_update,
    a_lead_gets_earlier_changes,
    references_prefer_the_callers_unit,
];

fn team(reference: &str, parent: Option<&str>, members: &[&str]) -> WantedTeam {
    WantedTeam {
        reference: reference.to_owned(),
        name: format!("Team {reference}"),
        lead: None,
        parent: parent.map(str::to_owned),
        parent_name: parent.map(|parent| format!("Team {parent}")),
        members: members.iter().map(|name| mail(name)).collect(),
    }
}

fn mail(name: &str) -> String {
    format!("{name}@example.com")
}

async fn people(world: &World, names: &[&str]) {
    for name in names {
        person_upsert(&world.plane, &world.ctx, &mail(name), PersonFacts::default().into()).await.unwrap();
    }
}

async fn start(world: &World) {
    world.kit.start_delivery(&world.plane).await;
}

async fn process(world: &World, teams: &[WantedTeam]) {
    let run = hierarchy_process(&world.plane, &world.ctx, teams.to_vec().into()).await.unwrap();
    let run = world.kit.ended(&run).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
}

async fn preview(world: &World, teams: &[WantedTeam]) -> HierarchyPlan {
    hierarchy_preview(&world.plane, &world.ctx, teams.to_vec().into()).await.unwrap()
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

async fn get(world: &World, reference: &str) -> landreeve_delivery::teams::Team {
    team_get(&world.plane, &world.ctx, &TeamRef::Reference(reference.to_owned())).await.unwrap()
}

async fn a_hierarchy_is_previewed_and_imported(world: &World) {
    start(world).await;
    people(world, &["ann", "bob", "cy"]).await;
    let lead = |team: WantedTeam, name: &str| WantedTeam { lead: Some(mail(name)), ..team };
    // A child may come before its parent; addresses are matched in any case.
    let child = WantedTeam {
        members: vec!["BOB@Example.com".to_owned(), mail("unknown"), mail("bob")],
        ..lead(team("b", Some("a"), &[]), "cy")
    };
    let wanted = [child, lead(team("a", None, &["ann"]), "ghost")];
    let plan = preview(world, &wanted).await;
    let expected = HierarchyPlan {
        create: texts(&["b", "a"]),
        unknown_members: texts(&["ghost@example.com", "unknown@example.com"]),
        ..HierarchyPlan::default()
    };
    assert_eq!(plan, expected);
    assert_eq!(team_list(&world.plane, &world.ctx, None).await.unwrap().items, []);
    process(world, &wanted).await;
    let (a, b) = (get(world, "a").await, get(world, "b").await);
    assert_eq!((a.parent, b.parent), (None, Some(a.id)));
    assert_eq!((a.lead, b.lead_member.map(|lead| lead.email)), (None, Some(mail("cy"))));
    assert_eq!(b.members.iter().map(|member| member.email.clone()).collect::<Vec<_>>(), [mail("bob")]);
    // Importing the same hierarchy again changes nothing, and the preview says so.
    let known = [
        WantedTeam { members: vec![mail("bob")], ..wanted[0].clone() },
        WantedTeam { lead: None, ..wanted[1].clone() },
    ];
    assert_eq!(preview(world, &known).await, HierarchyPlan::default());
    let given = hierarchy_get(&world.plane, &world.ctx).await.unwrap();
    let mut sorted = given.clone();
    sorted.sort_by(|left, right| right.reference.cmp(&left.reference));
    assert_eq!(sorted, known);
    let rows = world
        .sql(
            "SELECT t.reference_id, t.parent, t.contributors, t.manager_email, t.parent_name FROM dx_teams t ORDER BY 1",
        )
        .await;
    assert_eq!(rows, [["a", "true", "1", "NULL", "NULL"], ["b", "false", "1", "cy@example.com", "Team a"]]);
    let rows = world.sql("SELECT generations, count(*) FROM dx_team_hierarchies GROUP BY 1 ORDER BY 1").await;
    assert_eq!(rows, [["0", "2"], ["1", "1"]]);
    let found =
        team_of_members(&world.plane, &world.ctx, &[mail("bob"), mail("ann"), mail("cy")]).await.unwrap();
    assert_eq!(found.reference, "b", "the older of two equals");
    let error = team_of_members(&world.plane, &world.ctx, &[mail("cy")]).await.unwrap_err();
    assert_eq!(error.code, "no_users_found");
}

async fn teams_are_archived_and_restored(world: &World) {
    start(world).await;
    people(world, &["ann"]).await;
    let wanted = [team("a", None, &["ann"]), team("b", None, &[])];
    process(world, &wanted).await;
    world.kit.clock.advance(DAY);
    let plan = preview(world, &wanted[1..]).await;
    assert_eq!(plan, HierarchyPlan { archive: texts(&["a"]), ..HierarchyPlan::default() });
    process(world, &wanted[1..]).await;
    let gone = get(world, "a").await;
    assert_eq!((gone.deleted_at, gone.members.len()), (Some(world.kit.estate.now()), 0));
    assert_eq!(hierarchy_get(&world.plane, &world.ctx).await.unwrap().len(), 1);
    let plan = preview(world, &wanted).await;
    assert_eq!(plan, HierarchyPlan { update: texts(&["a"]), ..HierarchyPlan::default() });
    process(world, &wanted).await;
    let back = get(world, "a").await;
    assert_eq!((back.id, back.deleted_at, back.members.len()), (gone.id, None, 1));
}

async fn rejects_invalid_hierarchies(world: &World) {
    let teams = vec![
        team("a", Some("b"), &[]),
        team("b", Some("c"), &[]),
        team("c", Some("a"), &[]),
        team("d", None, &[]),
    ];
    for error in [
        hierarchy_preview(&world.plane, &world.ctx, teams.clone().into()).await.unwrap_err(),
        hierarchy_process(&world.plane, &world.ctx, teams.into()).await.unwrap_err(),
    ] {
        let faults: Vec<_> = error.faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
        let circle = |field| (field, "circle");
        assert_eq!(
            faults,
            [
                circle("teams.0.parent_team_reference_id"),
                circle("teams.1.parent_team_reference_id"),
                circle("teams.2.parent_team_reference_id")
            ]
        );
    }
    let teams = vec![
        team("a", Some("z"), &[]),
        WantedTeam { parent_name: None, ..team("b", Some("a"), &[]) },
        WantedTeam { parent: None, ..team("c", Some("a"), &[]) },
        WantedTeam { parent_name: own("Other"), ..team("d", Some("a"), &[]) },
        team("a", None, &[]),
    ];
    let error = hierarchy_preview(&world.plane, &world.ctx, teams.into()).await.unwrap_err();
    let faults: Vec<_> = error.faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
    assert_eq!(
        faults,
        [
            ("teams.0.parent_team_reference_id", "unknown"),
            ("teams.1.parent_team_name", "required"),
            ("teams.2.parent_team_reference_id", "required"),
            ("teams.3.parent_team_name", "mismatch"),
            ("teams.4.reference_id", "taken"),
        ]
    );
    assert_eq!(world.number("SELECT count(*) FROM delivery_teams").await, 0);
}

async fn every_change_is_recorded(world: &World) {
    start(world).await;
    people(world, &["ann", "bob"]).await;
    process(world, &[team("a", None, &["ann"]), team("b", None, &[])]).await;
    let renamed =
        WantedTeam { name: "Renamed".to_owned(), lead: Some(mail("bob")), ..team("b", Some("a"), &["ann"]) };
    process(world, &[team("a", None, &[]), renamed.clone()]).await;
    process(world, std::slice::from_ref(&WantedTeam { parent: None, parent_name: None, ..renamed })).await;
    let (a, b) = (get(world, "a").await.id, get(world, "b").await.id);
    let events = team_events(&world.plane, &world.ctx, None, 100).await.unwrap();
    let told: Vec<_> = events.iter().rev().map(|event| (event.team, event.action.as_str())).collect();
    assert_eq!(
        told,
        [
            (a, "create"),
            (b, "create"),
            (a, "add_contributor"),
            (a, "remove_contributor"),
            (b, "change_name"),
            (b, "change_parent"),
            (b, "change_manager"),
            (b, "add_contributor"),
            (b, "change_parent"),
            (a, "archive"),
        ]
    );
    let rename = &events[events.len() - 5];
    assert_eq!((rename.from.as_deref(), rename.to.as_deref()), (Some("Team b"), Some("Renamed")));
    assert_eq!(rename.actor, world.ctx.actor().name());
    // Page by page.
    let first = team_events(&world.plane, &world.ctx, None, 4).await.unwrap();
    let second = team_events(&world.plane, &world.ctx, Some(first[3].id), 4).await.unwrap();
    assert_eq!((first[0].id, second[0].id), (events[0].id, events[4].id));
}

async fn a_change_stays_with_the_team_of_its_time(world: &World) {
    start(world).await;
    people(world, &["ann"]).await;
    process(world, &[team("a", None, &["ann"]), team("b", None, &[])]).await;
    let (a, b) = (get(world, "a").await.id.to_string(), get(world, "b").await.id.to_string());
    let now = world.kit.estate.now();
    let by_ann = |number: u32, at| PullFacts { author_email: own("Ann@Example.com"), ..merged(number, at) };
    world.pull("acme/shop", 1, now, by_ann(1, now)).await.unwrap();
    // One from before any team was known belongs to the first team.
    world.pull("acme/shop", 2, minute(0), by_ann(2, minute(0))).await.unwrap();
    world.kit.clock.advance(DAY);
    process(world, &[team("a", None, &[]), team("b", None, &["ann"])]).await;
    let later = world.kit.estate.now();
    world.pull("acme/shop", 3, later, by_ann(3, later)).await.unwrap();
    // Reported late, opened while she was in the old team.
    world.pull("acme/shop", 4, now, by_ann(4, later)).await.unwrap();
    let rows = world.sql("SELECT number, dx_team_id FROM pull_requests ORDER BY 1").await;
    assert_eq!(rows, [["1", a.as_str()], ["2", &a], ["3", &b], ["4", &a]]);
    // When a person gets a name, the changes written under it become theirs; deployments follow.
    let by_name = PullFacts { author_username: own("CySpy"), ..merged(5, minute(5)) };
    world.pull("acme/shop", 5, minute(5), by_name).await.unwrap();
    let facts = DeploymentFacts { merge_commit_shas: Some(vec![sha(5)]), ..deployed("web", minute(9)) };
    world.deploy("cy's", facts).await.unwrap();
    people(world, &["cy"]).await;
    process(world, &[team("a", None, &[]), team("b", None, &["ann", "cy"])]).await;
    let named = PersonFacts { github_username: own("cyspy"), ..PersonFacts::default() };
    let cy = person_update(&world.plane, &world.ctx, &mail("cy"), named.into()).await.unwrap();
    let rows = world.sql("SELECT dx_user_id, dx_team_id FROM pull_requests WHERE number = 5").await;
    assert_eq!(rows, [[cy.id.to_string(), b.clone()]]);
    assert_eq!(world.sql("SELECT team_id FROM dora_deployments").await, [[b.as_str()]]);
    assert_eq!(world.sql("SELECT team_id FROM dora_changes").await, [[b.as_str()]]);
    assert_eq!(person_by_github(&world.plane, &world.ctx, "CYSPY").await.unwrap().id, cy.id);
}

async fn a_person_is_not_a_user(world: &World) {
    start(world).await;
    let users = world.number("SELECT count(*) FROM users").await;
    let user = world.kit.user("dee", &[]).await;
    people(world, &["ann", "dee"]).await;
    assert_eq!(world.number("SELECT count(*) FROM users").await, users + 1);
    let listed = person_list(&world.plane, &world.ctx, Page::first(10)).await.unwrap();
    let shown: Vec<_> = listed.items.iter().map(|person| (person.email.as_str(), person.user)).collect();
    assert_eq!(shown, [("ann@example.com", None), ("dee@example.com", Some(user.id))]);
    assert_eq!(listed.items[1].name, "dee person");
    // An estate user becomes a person only by being named as a member.
    world.kit.user("eve", &[]).await;
    process(world, &[team("a", None, &["eve", "zoe"])]).await;
    assert_eq!(person_list(&world.plane, &world.ctx, Page::first(10)).await.unwrap().total, 3);
    let error = person_update(&world.plane, &world.ctx, &mail("zoe"), PersonFacts::default().into())
        .await
        .unwrap_err();
    assert_eq!(error.noun, Some("person"));
    let page = person_list(&world.plane, &world.ctx, Page { offset: 1, limit: 1 }).await.unwrap();
    assert_eq!((page.items[0].email.as_str(), page.total), ("dee@example.com", 3));
}

async fn a_name_belongs_to_one_person(world: &World) {
    let named = |name: &str| PersonFacts { github_username: own(name), ..PersonFacts::default() };
    person_upsert(&world.plane, &world.ctx, &mail("ann"), named("Ann").into()).await.unwrap();
    let error = person_upsert(&world.plane, &world.ctx, &mail("bob"), named("ann").into()).await.unwrap_err();
    assert_eq!((error.faults[0].field.as_str(), error.faults[0].code), ("github_username", "taken"));
    assert_eq!(world.number("SELECT count(*) FROM delivery_people").await, 1);
    let bad = PersonFacts { start_date: own("yesterday"), ..PersonFacts::default() };
    let error = person_upsert(&world.plane, &world.ctx, "unknown", bad.into()).await.unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["email", "start_date"]);
    // An empty string clears the name, which is then free.
    let cleared = person_upsert(&world.plane, &world.ctx, &mail("ann"), named("").into()).await.unwrap();
    assert_eq!(cleared.github_username, None);
    person_upsert(&world.plane, &world.ctx, &mail("bob"), named("ann").into()).await.unwrap();
}

/// Whose a change is depends only on who has which names now, not on the order in which they were reported.
async fn a_name_that_is_taken_back_takes_its_changes(world: &World) {
    start(world).await;
    people(world, &["ann", "bob"]).await;
    process(world, &[team("a", None, &["ann"]), team("b", None, &["bob"])]).await;
    let name = async |who: &str, name: &str| {
        let facts = PersonFacts { github_username: own(name), ..PersonFacts::default() };
        person_update(&world.plane, &world.ctx, &mail(who), facts.into()).await.unwrap().id.to_string()
    };
    let pull = async |number: u32, email: Option<&str>| {
        let facts = PullFacts {
            author_username: own("Spy"),
            author_email: email.map(mail),
            ..merged(number, minute(1))
        };
        world.pull("acme/shop", i64::from(number), minute(0), facts).await.unwrap();
    };
    let owners = async || world.sql("SELECT dx_user_id, dx_team_id FROM pull_requests ORDER BY number").await;
    let teams = async || {
        let of_changes = world.sql("SELECT team_id FROM dora_changes ORDER BY change_id").await;
        (of_changes.concat(), world.sql("SELECT team_id FROM dora_deployments").await.concat())
    };
    let (a, b) = (get(world, "a").await.id.to_string(), get(world, "b").await.id.to_string());
    // A known address takes precedence over a name.
    pull(1, None).await;
    let ann = name("ann", "spy").await;
    let bob = name("bob", "").await;
    pull(2, Some("bob")).await;
    pull(3, Some("cy")).await;
    let whole = DeploymentFacts { repository: own("acme/shop"), ..deployed("web", minute(9)) };
    world.deploy("whole", whole).await.unwrap();
    let (anns, bobs) = ([ann.clone(), a.clone()], [bob.clone(), b.clone()]);
    let nobodys = ["NULL".to_owned(), "NULL".to_owned()];
    assert_eq!(owners().await, [anns.clone(), bobs.clone(), anns.clone()]);
    let told = teams().await;
    assert_eq!(told, (vec![a.clone(), b.clone(), a.clone()], vec![a.clone()]));
    // Of changes that landed together the last one decides the deployment's team, also when it is attributed again.
    name("ann", "spy").await;
    name("bob", "").await;
    assert_eq!(teams().await, told);
    name("ann", "").await;
    pull(4, None).await;
    assert_eq!(owners().await, [nobodys.clone(), bobs.clone(), nobodys.clone(), nobodys.clone()]);
    let none = || "NULL".to_owned();
    assert_eq!(teams().await, (vec![none(), b.clone(), none(), none()], vec![b.clone()]));
    name("bob", "spy").await;
    assert_eq!(owners().await, [bobs.clone(), bobs.clone(), bobs.clone(), bobs.clone()]);
    assert_eq!(teams().await, (vec![b.clone(); 4], vec![b.clone()]));
    // A change without a team turns out to be by the person with the address.
    people(world, &["cy"]).await;
    let cys = owners().await[2].clone();
    assert!(cys[0] != bob && cys[0] != "NULL" && cys[1] == "NULL", "{cys:?}");
    assert_eq!(teams().await, (vec![b.clone(), b.clone(), none(), b.clone()], vec![b.clone()]));
    name("bob", "").await;
    name("ann", "spy").await;
    assert_eq!(owners().await[0], anns);
    assert_eq!(owners().await[1..3], [bobs.to_vec(), cys]);
    assert_eq!(owners().await[3], anns);
}

async fn a_lead_that_changes_is_an_update(world: &World) {
    start(world).await;
    people(world, &["ann", "bob"]).await;
    let led = |name: &str| [WantedTeam { lead: Some(mail(name)), ..team("a", None, &[]) }];
    process(world, &led("ann")).await;
    assert_eq!(preview(world, &led("ann")).await, HierarchyPlan::default());
    let plan = preview(world, &led("bob")).await;
    assert_eq!(plan, HierarchyPlan { update: texts(&["a"]), ..HierarchyPlan::default() });
}

async fn a_lead_gets_earlier_changes(world: &World) {
    start(world).await;
    world.kit.user("dee", &[]).await;
    let facts = PullFacts { author_email: Some(mail("dee")), ..merged(1, minute(1)) };
    world.pull("acme/shop", 1, minute(0), facts).await.unwrap();
    process(world, &[WantedTeam { lead: Some(mail("dee")), ..team("a", None, &[]) }]).await;
    let dee = get(world, "a").await.lead.unwrap();
    let rows = world.sql("SELECT dx_user_id, dx_team_id FROM pull_requests").await;
    assert_eq!(rows, [[dee.to_string().as_str(), "NULL"]]);
}

async fn references_prefer_the_callers_unit(world: &World) {
    start(world).await;
    let ou = world.kit.ou("below").await;
    let below = landreeve_estate::ops::sign_in::system_in(&world.kit.estate, ou.id).await.unwrap();
    let spy = || PersonFacts { github_username: own("spy"), ..PersonFacts::default() };
    let teams = vec![team("a", None, &[]), team("b", None, &[])];
    let run = hierarchy_process(&world.plane, &below, teams.into()).await.unwrap();
    assert_eq!(world.kit.ended(&run).await.state, RunState::Succeeded);
    person_upsert(&world.plane, &below, &mail("ann"), spy().into()).await.unwrap();
    let github = async |ctx: &OpCtx| person_by_github(&world.plane, ctx, "Spy").await.unwrap().ou;
    // From a unit above, they are found too if there is no other.
    assert_eq!((get(world, "a").await.ou, github(&world.ctx).await), (ou.id, ou.id));
    process(world, &[team("a", None, &[])]).await;
    person_upsert(&world.plane, &world.ctx, &mail("bob"), spy().into()).await.unwrap();
    assert_eq!((get(world, "a").await.ou, github(&world.ctx).await), (OuId::ROOT, OuId::ROOT));
    assert_eq!(get(world, "b").await.ou, ou.id);
    let reference = TeamRef::Reference("a".to_owned());
    let theirs = team_get(&world.plane, &below, &reference).await.unwrap();
    assert_eq!((theirs.ou, github(&below).await), (ou.id, ou.id));
}

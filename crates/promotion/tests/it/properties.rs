//! Properties on both metadata stores: what is stored and shown, filters, secrets, and a model of any sequence of requests.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use landreeve_core::{ErrorKind, Input, page};
use landreeve_estate::args;
use landreeve_estate::ops::secrets::rotate;
use landreeve_estate::random::SeededRandom;
use landreeve_estate::secrets::SealKey;
use landreeve_promotion::clusters::{ClusterFacts, cluster_create};
use landreeve_promotion::environments::{EnvironmentFacts, environment_create};
use landreeve_promotion::ids::{ClusterId, EnvironmentId};
use landreeve_promotion::properties::{
    MAX_IN_REQUEST, MAX_NAME, MAX_NAME_BYTES, MAX_VALUE, NewProperty, Parent, ParentKind, Property,
    PropertyFilter, property_delete, property_list, property_put,
};
use landreeve_testkit::{Kit, PAGE_ROWS};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;

use crate::support::World;

macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::World::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let world = super::World::postgres().await;
                let kit = super::$name(world).await;
                kit.remove().await;
            })*
        }
    };
}

on_both! {
    a_property_is_changed_by_sending_it_again
    nothing_is_stored_if_one_property_is_wrong
    filters_find_what_a_name_says
    lists_of_any_length_are_read_in_pages
    an_environment_has_a_limit
    secrets_are_shown_as_texts_that_are_accepted_again
    a_text_is_accepted_in_another_environment_as_a_new_one
    another_programs_ciphertext_is_returned_as_it_was_sent
    texts_stay_valid_when_the_key_is_changed
    any_sequence_of_requests_agrees_with_the_model
}

async fn environment(world: &World, name: &str) -> Parent {
    let facts = EnvironmentFacts { name: name.to_owned(), ..EnvironmentFacts::default() };
    let made = environment_create(&world.plane, &world.ctx, Input::of(facts)).await.unwrap();
    Parent::Environment(made.id)
}

async fn cluster(world: &World, environment: Parent) -> Parent {
    let facts = ClusterFacts {
        environment: Some(EnvironmentId(environment.id())),
        name: "c".to_owned(),
        enabled: true,
        ..ClusterFacts::default()
    };
    Parent::Cluster(cluster_create(&world.plane, &world.ctx, Input::of(facts)).await.unwrap().id)
}

fn new(name: &str, value: &str) -> NewProperty {
    NewProperty { name: name.to_owned(), value: value.to_owned(), undefined: false }
}

async fn send(
    world: &World,
    parent: Parent,
    wanted: Vec<NewProperty>,
) -> landreeve_core::Result<Vec<Property>> {
    property_put(&world.plane, &world.ctx, parent, Input::of(wanted)).await
}

/// Sends one property; returns the value that is shown.
async fn set(world: &World, parent: Parent, name: &str, value: &str) -> String {
    send(world, parent, vec![new(name, value)]).await.unwrap().remove(0).value
}

async fn list(world: &World, parent: Parent, filter: &PropertyFilter) -> Vec<Property> {
    page::collect(|after| property_list(&world.plane, &world.ctx, parent, filter, after)).await.unwrap()
}

async fn all(world: &World, parent: Parent) -> Vec<Property> {
    list(world, parent, &PropertyFilter::default()).await
}

async fn delete(world: &World, property: &Property) -> landreeve_core::Result<()> {
    property_delete(&world.plane, &world.ctx, property.id, property.parent.kind()).await
}

fn names(properties: &[Property]) -> Vec<&str> {
    properties.iter().map(|property| property.name.as_str()).collect()
}

/// The fields of the faults, and what is wrong with them.
async fn faults(world: &World, parent: Parent, wanted: Vec<NewProperty>) -> Vec<(String, String)> {
    let error = send(world, parent, wanted).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    error.faults.into_iter().map(|fault| (fault.field, fault.message)).collect()
}

async fn a_property_is_changed_by_sending_it_again(world: World) -> Kit {
    let (dev, other) = (environment(&world, "dev").await, environment(&world, "other").await);
    let made = send(&world, dev, vec![new("b", "1"), new("a", "2"), new("c", "")]).await.unwrap();
    assert_eq!(names(&made), ["b", "a", "c"], "in the order of the request");
    assert_eq!(names(&all(&world, dev).await), ["a", "b", "c"], "by name");
    assert!(all(&world, other).await.is_empty());

    let undefined = NewProperty { undefined: true, ..new("a", "") };
    let again = send(&world, dev, vec![undefined, new("b", "1"), new("d", "4")]).await.unwrap();
    assert_eq!((again[0].id, again[1].id), (made[1].id, made[0].id), "ids stay");
    assert!(again[0].undefined && again[0].value.is_empty());
    let mut listed = all(&world, dev).await;
    assert_eq!(names(&listed), ["a", "b", "c", "d"]);
    assert!(listed[0].undefined && listed[1] == made[0] && listed[3] == again[2]);
    let defined = send(&world, dev, vec![new("a", "5")]).await.unwrap().remove(0);
    assert!(!defined.undefined && defined.value == "5");

    assert!(send(&world, dev, Vec::new()).await.unwrap().is_empty());
    let gone = listed.remove(1);
    delete(&world, &gone).await.unwrap();
    assert_eq!(names(&all(&world, dev).await), ["a", "c", "d"]);
    assert_eq!(delete(&world, &gone).await.unwrap_err().message, "there is no such property");
    let other_kind =
        property_delete(&world.plane, &world.ctx, listed[0].id, ParentKind::Cluster).await.unwrap_err();
    assert_eq!(other_kind.kind, ErrorKind::NotFound);
    world.kit
}

async fn nothing_is_stored_if_one_property_is_wrong(world: World) -> Kit {
    let dev = environment(&world, "dev").await;
    let long = "n".repeat(MAX_NAME + 1);
    let undefined = NewProperty { undefined: true, ..new("x", "1") };
    let encrypted = "is an encrypted value that was not made for this property, or is damaged";
    for (wrong, field, message) in [
        (new("", "1"), "1.name", "must not be empty".to_owned()),
        (new(&long, "1"), "1.name", format!("must have at most {MAX_NAME} characters, has {}", MAX_NAME + 1)),
        (
            new(&"漢".repeat(MAX_NAME_BYTES / 3 + 1), "1"),
            "1.name",
            format!("must have at most {MAX_NAME_BYTES} bytes, has {}", MAX_NAME_BYTES + 3),
        ),
        (new("a\nb", "1"), "1.name", "must not contain control characters".to_owned()),
        (new("first", "1"), "1.name", "is given twice".to_owned()),
        (
            new("x", &"v".repeat(MAX_VALUE + 1)),
            "1.value",
            format!("must have at most {MAX_VALUE} bytes, has {}", MAX_VALUE + 1),
        ),
        (new("x", "a\0b"), "1.value", "must not contain the character U+0000".to_owned()),
        (undefined, "1.value", "must be empty if undefined is true".to_owned()),
        (new("users.u.PASSWORD", "lr1:"), "1.value", encrypted.to_owned()),
        (new("users.u.PASSWORD", "lr1:AQAAAAAAAAAC"), "1.value", encrypted.to_owned()),
        (new("users.u.PASSWORD", "lr1:!"), "1.value", encrypted.to_owned()),
        (new("users.u.NAME", "lr1:AQ"), "1.value", encrypted.to_owned()),
    ] {
        let found = faults(&world, dev, vec![new("first", "0"), wrong]).await;
        assert_eq!(found, [(field.to_owned(), message)]);
    }
    let several = faults(&world, dev, vec![new("", "a\0b"), new("y", "1"), new("y", "lr1:x")]).await;
    let fields: Vec<_> = several.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["0.name", "0.value", "2.name", "2.value"]);
    let many = vec![new("x", "1"); MAX_IN_REQUEST + 1];
    let message = "a request can have at most 10000 properties, has 10001".to_owned();
    assert_eq!(faults(&world, dev, many).await, [(String::new(), message)]);
    assert!(all(&world, dev).await.is_empty());

    // At their limits.
    let full = vec![new(&"n".repeat(MAX_NAME), &"v".repeat(MAX_VALUE)), new("quotes ' \" \\ ; ${x}", "a\nb")];
    assert_eq!(send(&world, dev, full).await.unwrap().len(), 2);
    // What PostgreSQL cannot compress, in the name and in its element.
    let varied: String = (0..380_u32).map(|at| char::from_u32(0x4e00 + at * 37).unwrap()).collect();
    let name = format!("databases.d.views.jdbc.{varied}.URI");
    send(&world, dev, vec![new(&name, "v")]).await.unwrap();
    let filter = PropertyFilter { element_name: Some(varied), ..PropertyFilter::default() };
    assert_eq!(names(&list(&world, dev, &filter).await), [name.as_str()]);
    // A secret of the largest size can be sent back.
    let text = set(&world, dev, "users.u.PASSWORD", &"v".repeat(MAX_VALUE)).await;
    assert_eq!(set(&world, dev, "users.u.PASSWORD", &text).await, text);
    for unknown in [Parent::Environment(EnvironmentId(99)), Parent::Cluster(ClusterId(99))] {
        let error = send(&world, unknown, vec![new("", "")]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    }
    world.kit
}

static ENGINE: [&str; 10] = [
    "databases.admin.datasources.jdbc.oracle12c.DATABASEURI",
    "databases.admin.datasources.jdbc.oracle12c.USERNAME",
    "databases.admin.datasources.ldap.ad.URI",
    "databases.admin.views.jdbc.environment.SCHEMANAME",
    "databases.sales.folder.1..x.folder.ds.datasources.jdbc.oracle12c.DATABASEURI",
    "databases.sales.folder.ds.views.custom.ds_dummy.File location.ROUTE.LOCAL.PATH",
    "databases.sales.charset",
    "users.admin.NAME",
    "users.smadmin.PASSWORD.ALGORITHM",
    "web.port",
];

static SCHEDULER: [&str; 5] = [
    "default.dataSource.VDP.vdp.connectionURI",
    "default.dataSource.VDP.vdp.login",
    "Manager.dataSource.ITP.itpds.dbName",
    "Manager.job.VDPCache.nightly.project",
    "odd",
];

/// Name, database or project, type, name of the type, element: what is asked; and the numbers of what is found.
type Case = ([&'static str; 5], &'static [usize]);

static ENGINE_CASES: [Case; 25] = [
    (["", "", "", "", ""], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    (["users.smadmin.PASSWORD.ALGORITHM", "", "", "", ""], &[8]),
    // The name excludes the others, even if they contradict it.
    (["users.smadmin.PASSWORD.ALGORITHM", "sales", "views", "xml", "x"], &[8]),
    (["users.smadmin.password.algorithm", "", "", "", ""], &[]),
    (["users.smadmin", "", "", "", ""], &[]),
    (["", "admin", "", "", ""], &[0, 1, 2, 3]),
    (["", "sales", "", "", ""], &[4, 5, 6]),
    (["", "Admin", "", "", ""], &[]),
    (["", "adm%", "", "", ""], &[]),
    (["", "", "datasources", "", ""], &[0, 1, 2, 4]),
    (["", "", "datasource", "", ""], &[0, 1, 2, 4]),
    (["", "", "DataSource", "", ""], &[0, 1, 2, 4]),
    (["", "", "view", "", ""], &[3, 5]),
    (["", "", "nosuch", "", ""], &[]),
    (["", "", "", "jdbc", ""], &[0, 1, 3, 4]),
    (["", "", "", "JDBC", ""], &[0, 1, 3, 4]),
    (["", "", "", "custom", ""], &[5]),
    (["", "", "", "", "oracle12c"], &[0, 1, 4]),
    (["", "", "", "", "Oracle12c"], &[]),
    (["", "", "", "", "ds_dummy"], &[5]),
    (["", "admin", "datasources", "ldap", ""], &[2]),
    (["", "admin", "datasources", "jdbc", "oracle12c"], &[0, 1]),
    (["", "sales", "views", "jdbc", ""], &[]),
    (["", "a\0", "", "", ""], &[]),
    (["a\0", "", "", "", ""], &[]),
];

static SCHEDULER_CASES: [Case; 10] = [
    (["", "", "", "", ""], &[0, 1, 2, 3, 4]),
    (["Manager.dataSource.ITP.itpds.dbName", "default", "", "", ""], &[2]),
    (["", "default", "", "", ""], &[0, 1]),
    (["", "manager", "", "", ""], &[]),
    (["", "", "datasource", "", ""], &[0, 1, 2]),
    (["", "", "dataSources", "", ""], &[0, 1, 2]),
    (["", "", "", "itp", ""], &[2]),
    (["", "", "", "ITP", ""], &[2]),
    (["", "", "", "", "itpds"], &[2]),
    (["", "Manager", "datasource", "", ""], &[2]),
];

async fn filters_find_what_a_name_says(world: World) -> Kit {
    let dev = environment(&world, "dev").await;
    let clustered = cluster(&world, dev).await;
    let kinds = [(dev, &ENGINE[..], &ENGINE_CASES[..]), (clustered, &SCHEDULER[..], &SCHEDULER_CASES[..])];
    for (parent, known, cases) in kinds {
        send(&world, parent, known.iter().map(|name| new(name, "v")).collect()).await.unwrap();
        for (asked, expected) in cases {
            let [name, database, element_type, element_type_name, element_name] =
                asked.map(|text| (!text.is_empty()).then(|| text.to_owned()));
            let filter = PropertyFilter { name, database, element_type, element_type_name, element_name };
            let found = list(&world, parent, &filter).await;
            let expected: BTreeSet<&str> = expected.iter().map(|at| known[*at]).collect();
            assert_eq!(names(&found).into_iter().collect::<BTreeSet<_>>(), expected, "{asked:?}");
        }
    }
    world.kit
}

async fn lists_of_any_length_are_read_in_pages(world: World) -> Kit {
    let dev = environment(&world, "dev").await;
    let count = 3 * PAGE_ROWS + 7;
    let wanted: Vec<NewProperty> = (0..count).map(|at| new(&format!("p{at:05}"), "v")).collect();
    let first = send(&world, dev, wanted).await.unwrap();
    assert_eq!(all(&world, dev).await, first);
    // Large values make small pages.
    let large = "v".repeat(MAX_VALUE);
    let wanted = (0..40).map(|at| new(&format!("p{at:05}"), &large)).collect();
    send(&world, dev, wanted).await.unwrap();
    let part = property_list(&world.plane, &world.ctx, dev, &PropertyFilter::default(), None).await.unwrap();
    assert!(part.items.len() < 40 && part.next.is_some(), "{}", part.items.len());
    assert_eq!(names(&all(&world, dev).await), names(&first));
    world.kit
}

async fn an_environment_has_a_limit(world: World) -> Kit {
    let dev = environment(&world, "dev").await;
    world
        .kit
        .exec(
            "INSERT INTO promotion_properties (id, environment_id, name, kind, value, undefined, updated_at) \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99999) \
             SELECT 1000000 + i, CAST($1 AS BIGINT), 'p' || i, 'plain', 'v', 0, 0 FROM n",
            args![dev.id()],
        )
        .await;
    send(&world, dev, vec![new("q1", "v"), new("p7", "other")]).await.unwrap();
    let message = "there can be at most 100000 properties; delete some first".to_owned();
    let wanted = vec![new("p8", "other"), new("q2", "v")];
    assert_eq!(faults(&world, dev, wanted).await, [(String::new(), message)]);
    let one = |name: &str| PropertyFilter { name: Some(name.to_owned()), ..PropertyFilter::default() };
    assert_eq!(list(&world, dev, &one("p7")).await[0].value, "other");
    assert_eq!(list(&world, dev, &one("p8")).await[0].value, "v", "all or nothing");
    assert!(list(&world, dev, &one("q2")).await.is_empty());
    // Those that exist can still be changed.
    send(&world, dev, vec![new("p8", "other")]).await.unwrap();
    world.kit
}

const SECRET: &str = "users.u.PASSWORD";

async fn secrets_are_shown_as_texts_that_are_accepted_again(world: World) -> Kit {
    let dev = environment(&world, "dev").await;
    let clustered = cluster(&world, dev).await;
    let text = set(&world, dev, SECRET, "hunter2").await;
    assert!(text.starts_with("lr1:") && !text.contains("hunter2"), "{text}");
    assert_eq!(all(&world, dev).await[0].value, text);
    // Neither the text nor the sealed value has the secret.
    let stored =
        "SELECT count(*) FROM promotion_properties WHERE kind = 'secret' AND value_sealed IS NOT NULL";
    assert_eq!(world.kit.number(stored).await, 1);
    let rows = world.kit.rows("SELECT value, name, kind FROM promotion_properties").await;
    assert!(!format!("{rows:?}").contains("hunter2"));

    assert_eq!(set(&world, dev, SECRET, "hunter2").await, text, "the same value keeps its text");
    assert_eq!(set(&world, dev, SECRET, &text).await, text);
    let changed = set(&world, dev, SECRET, "hunter3").await;
    assert_ne!(changed, text);
    assert_eq!(set(&world, dev, SECRET, &text).await, text, "an earlier text brings its value back");
    assert_eq!(set(&world, dev, SECRET, "hunter2").await, text);

    delete(&world, &all(&world, dev).await[0]).await.unwrap();
    assert_eq!(set(&world, dev, SECRET, &text).await, text, "also after the property was deleted");
    assert_eq!(set(&world, dev, SECRET, "").await, "", "an empty value is not a secret");
    assert_eq!(set(&world, dev, SECRET, &text).await, text);

    for (name, value) in [
        ("users.v.PASSWORD", text.clone()),
        (SECRET, text[..text.len() - 1].to_owned()),
        (SECRET, format!("{text}A")),
        (SECRET, text.replace("lr1:A", "lr1:B")),
        ("users.u.NAME", text.clone()),
    ] {
        let found = faults(&world, dev, vec![new(name, &value)]).await;
        assert_eq!(found.len(), 1, "{name} {value}");
        assert!(found[0].1.starts_with("is an encrypted value"), "{found:?}");
    }
    let parameter = "default.dataSource.VDP.vdp.password";
    let of_cluster = set(&world, clustered, parameter, "hunter2").await;
    assert!(of_cluster.starts_with("lr1:"));
    assert_eq!(set(&world, clustered, parameter, &of_cluster).await, of_cluster);
    assert_eq!(set(&world, dev, parameter, "hunter2").await, "hunter2", "the kinds have their own rules");
    // Not in debug output either.
    assert!(!format!("{:?}", new(SECRET, "hunter2")).contains("hunter2"));
    world.kit
}

async fn a_text_is_accepted_in_another_environment_as_a_new_one(world: World) -> Kit {
    let (dev, test) = (environment(&world, "dev").await, environment(&world, "test").await);
    let text = set(&world, dev, SECRET, "hunter2").await;
    let carried = set(&world, test, SECRET, &text).await;
    assert!(carried.starts_with("lr1:") && carried != text);
    assert_eq!(set(&world, test, SECRET, "hunter2").await, carried, "it has the same value");
    assert_eq!(set(&world, test, SECRET, &text).await, carried);

    world.kit.exec("DELETE FROM promotion_environments WHERE id = $1", args![dev.id()]).await;
    let found = faults(&world, test, vec![new(SECRET, &text)]).await;
    assert!(found[0].1.starts_with("was encrypted for another environment"), "{found:?}");
    world.kit
}

async fn another_programs_ciphertext_is_returned_as_it_was_sent(world: World) -> Kit {
    let (encrypted, algorithm) = ("users.u.PASSWORD.ENCRYPTED", "users.u.PASSWORD.ALGORITHM");
    let (cipher, is_text) = ("mYgfbAayggeImPPOGfklFLfgt", |value: &str| value.starts_with("lr1:"));
    // With its sibling, before or after it, or after it was stored.
    for (number, requests) in [
        vec![vec![new(SECRET, cipher), new(algorithm, "SHA512")]],
        vec![vec![new(encrypted, "ENCRYPTED"), new(SECRET, cipher)]],
        vec![vec![new(encrypted, "ENCRYPTED")], vec![new(SECRET, cipher)]],
    ]
    .into_iter()
    .enumerate()
    {
        let parent = environment(&world, &format!("open {number}")).await;
        for request in requests {
            send(&world, parent, request).await.unwrap();
        }
        let found = all(&world, parent).await;
        assert_eq!((found[0].name.as_str(), found[0].value.as_str()), (SECRET, cipher), "{number}");
    }
    // An empty sibling says nothing, and one that the request replaces says what it says now.
    let parent = environment(&world, "empty").await;
    send(&world, parent, vec![new(encrypted, "")]).await.unwrap();
    assert!(is_text(&set(&world, parent, SECRET, cipher).await));
    send(&world, parent, vec![new(encrypted, "ENCRYPTED")]).await.unwrap();
    let sent = send(&world, parent, vec![new(SECRET, "other"), new(encrypted, "")]).await.unwrap();
    assert!(is_text(&sent[0].value));

    // A later sibling uncovers nothing.
    let parent = environment(&world, "late").await;
    let text = set(&world, parent, SECRET, "hunter2").await;
    send(&world, parent, vec![new(encrypted, "ENCRYPTED"), new(algorithm, "SHA512")]).await.unwrap();
    assert_eq!(all(&world, parent).await[0].value, text);
    assert_eq!(set(&world, parent, SECRET, &text).await, text, "what came as a text stays one");
    let sent = send(&world, parent, vec![new(encrypted, "X"), new(SECRET, &text)]).await.unwrap();
    assert_eq!(sent[1].value, text);
    // Who sends a value knows it.
    assert_eq!(set(&world, parent, SECRET, cipher).await, cipher);
    world.kit
}

async fn texts_stay_valid_when_the_key_is_changed(world: World) -> Kit {
    let dev = environment(&world, "dev").await;
    let text = set(&world, dev, SECRET, "hunter2").await;
    let estate = world.plane.estate();
    let sealed = rotate(estate, &world.ctx, SealKey::generate(&SeededRandom::new(8))).await.unwrap();
    assert!(sealed >= 2, "the value and the key of texts, not only {sealed}");
    assert_eq!(all(&world, dev).await[0].value, text);
    assert_eq!(set(&world, dev, SECRET, "hunter2").await, text);
    delete(&world, &all(&world, dev).await[0]).await.unwrap();
    assert_eq!(set(&world, dev, SECRET, &text).await, text);
    assert_eq!(set(&world, dev, SECRET, "hunter2").await, text, "the text still has its value");
    world.kit
}

/// Names that depend on each other.
const POOL: [&str; 6] = [
    SECRET,
    "users.u.PASSWORD.ENCRYPTED",
    "users.u.PASSWORD.ALGORITHM",
    "users.v.PASSWORD",
    "databases.d.datasources.jdbc.x.USERNAME",
    "other",
];

#[derive(Debug, Clone)]
enum Sent {
    Value(&'static str),
    /// A text that was shown for this name: the nth, if there are so many.
    Text(usize),
    Undefined,
}

#[derive(Debug, Clone)]
enum Step {
    /// By position in the pool, each at most once.
    Send(BTreeMap<usize, Sent>),
    Delete(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sent = prop_oneof![
        4 => prop::sample::select(vec!["", "x", "y"]).prop_map(Sent::Value),
        2 => (0_usize..4).prop_map(Sent::Text),
        1 => Just(Sent::Undefined),
    ];
    let send = prop::collection::btree_map(0..POOL.len(), sent, 1..4).prop_map(Step::Send);
    let delete = (0..POOL.len()).prop_map(Step::Delete);
    prop::collection::vec(prop_oneof![4 => send, 1 => delete], 1..24)
}

/// What the model knows of a property.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    property: Property,
    /// What its text contains.
    clear: Option<&'static str>,
}

#[derive(Default)]
struct Model {
    known: BTreeMap<&'static str, Known>,
    /// Every text that was shown, with what it contains.
    texts: BTreeMap<&'static str, Vec<(String, &'static str)>>,
}

impl Model {
    /// What to send, and for each property the clear value that it must have if it is a secret then.
    fn request(&self, sent: &BTreeMap<usize, Sent>) -> Vec<(NewProperty, Option<&'static str>)> {
        let value = |name: &'static str, sent: &Sent| match sent {
            Sent::Value(value) => ((*value).to_owned(), None),
            Sent::Undefined => (String::new(), None),
            Sent::Text(nth) => match self.texts.get(name).and_then(|texts| texts.get(*nth)) {
                Some((text, clear)) => (text.clone(), Some(*clear)),
                None => ("z".to_owned(), None),
            },
        };
        let values: BTreeMap<&str, (String, Option<&'static str>)> =
            sent.iter().map(|(at, sent)| (POOL[*at], value(POOL[*at], sent))).collect();
        let has_value = |name: &str| match (values.get(name), self.known.get(name)) {
            (Some((value, _)), _) => !value.is_empty(),
            (None, Some(known)) => !known.property.value.is_empty(),
            (None, None) => false,
        };
        let one = |(at, sent): (&usize, &Sent)| {
            let name = POOL[*at];
            let (value, of_text) = values[name].clone();
            let covered = ["ENCRYPTED", "ALGORITHM"].iter().any(|tail| has_value(&format!("{name}.{tail}")));
            let plain = match value.as_str() {
                "" => None,
                "x" => Some("x"),
                "y" => Some("y"),
                _ => Some("z"),
            };
            let clear = match of_text {
                Some(clear) => Some(clear),
                None if name.ends_with("PASSWORD") && !covered => plain,
                None => None,
            };
            let undefined = matches!(sent, Sent::Undefined);
            (NewProperty { name: name.to_owned(), value, undefined }, clear)
        };
        sent.iter().map(one).collect()
    }

    /// Compares a property with what was sent, and remembers it.
    fn note(&mut self, name: &'static str, sent: &NewProperty, clear: Option<&'static str>, got: &Property) {
        let old = self.known.get(name);
        assert_eq!((got.name.as_str(), got.undefined), (name, sent.undefined));
        match old {
            Some(old) => assert_eq!(got.id, old.property.id, "{name}"),
            None => assert!(self.known.values().all(|other| other.property.id != got.id)),
        }
        let texts = self.texts.entry(name).or_default();
        match (clear, old) {
            (None, _) => assert_eq!(got.value, sent.value, "{name}"),
            (Some(clear), Some(old)) if old.clear == Some(clear) => assert_eq!(got.value, old.property.value),
            (Some(_), _) if sent.value.starts_with("lr1:") => assert_eq!(got.value, sent.value),
            (Some(clear), _) => {
                assert!(got.value.starts_with("lr1:") && texts.iter().all(|(known, _)| *known != got.value));
                texts.push((got.value.clone(), clear));
            }
        }
        self.known.insert(name, Known { property: got.clone(), clear });
    }
}

async fn agrees(world: &World, steps: &[Step]) -> usize {
    let parent = environment(world, &world.plane.estate().uuid().to_string()).await;
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Send(sent) => {
                let request = model.request(sent);
                let wanted = request.iter().map(|(new, _)| new.clone()).collect();
                let got = send(world, parent, wanted).await.unwrap();
                assert_eq!(got.len(), request.len());
                for ((at, (new, clear)), got) in sent.keys().zip(&request).zip(&got) {
                    model.note(POOL[*at], new, *clear, got);
                }
            }
            Step::Delete(at) => {
                if let Some(known) = model.known.remove(POOL[*at]) {
                    delete(world, &known.property).await.unwrap();
                }
            }
        }
        let listed = all(world, parent).await;
        let mut expected: Vec<Property> = model.known.values().map(|known| known.property.clone()).collect();
        expected.sort_by(|a, b| a.name.cmp(&b.name));
        let by_name: BTreeMap<String, Property> =
            listed.into_iter().map(|property| (property.name.clone(), property)).collect();
        assert_eq!(by_name.into_values().collect::<Vec<_>>(), expected);
    }
    model.texts.values().map(Vec::len).sum()
}

async fn any_sequence_of_requests_agrees_with_the_model(world: World) -> Kit {
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let texts = Cell::new(0);
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&steps(), |steps| {
            texts.set(texts.get() + Handle::current().block_on(agrees(&world, &steps)));
            Ok(())
        })
    });
    outcome.unwrap();
    assert!(texts.get() > 32, "too few secrets to prove anything: {}", texts.get());
    world.kit
}

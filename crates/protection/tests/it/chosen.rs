//! Restores of some tables or schemas. `pg_dump` and the server's catalog say what belongs to them.

use landreeve_core::ErrorKind;
use landreeve_estate::ops::Datasource;
use landreeve_protection::backing_up::NewBackup;
use landreeve_protection::backups::Backup;
use landreeve_protection::restoring::{NewRestore, restore_plan, restore_start};

use crate::support::{World, to};
use crate::{mysql, postgres};

const DEFAULTS: NewBackup = NewBackup { repository: None, keep: None };

/// Tables that need types, functions, sequences, parents and one another.
const SHOP: &str = r#"
    CREATE SCHEMA s; CREATE SCHEMA t;
    CREATE TYPE s.mood AS ENUM ('a', 'b'); CREATE DOMAIN s.pos AS int CHECK (value > 0);
    CREATE FUNCTION s.stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
    CREATE FUNCTION t.more(x int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT x + 1';
    CREATE TABLE s.c (id serial PRIMARY KEY, m s.mood, p s.pos, q int GENERATED ALWAYS AS IDENTITY,
                      r int DEFAULT t.more(1), CONSTRAINT ck CHECK (t.more(p) > 1));
    INSERT INTO s.c (m, p) SELECT 'a', i FROM generate_series(1, 500) AS i;
    CREATE INDEX ci ON s.c (p); CREATE INDEX cx ON s.c ((t.more(p)));
    CREATE STATISTICS s.st ON m, p FROM s.c; COMMENT ON COLUMN s.c.p IS 'col';
    CREATE TABLE "o x" (id int PRIMARY KEY REFERENCES s.c (id)); INSERT INTO "o x" VALUES (1), (2);
    CREATE TABLE t.u (id int PRIMARY KEY REFERENCES "o x" (id), note text); INSERT INTO t.u VALUES (1, 'one');
    CREATE TRIGGER stop BEFORE INSERT ON s.c FOR EACH ROW EXECUTE FUNCTION s.stop();
    CREATE VIEW s.v AS SELECT id FROM s.c; CREATE VIEW s.w AS SELECT note FROM t.u;
    CREATE MATERIALIZED VIEW s.k AS SELECT count(*) AS n FROM s.v;
    CREATE SEQUENCE s.free; SELECT nextval('s.free'), nextval('s.free');
    CREATE TABLE parted (a int, b text, PRIMARY KEY (a)) PARTITION BY RANGE (a);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE t.parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20) PARTITION BY HASH (a);
    CREATE TABLE t.parted_2a PARTITION OF t.parted_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE t.parted_2b PARTITION OF t.parted_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO parted SELECT i, 'row ' || i FROM generate_series(0, 19) AS i;
    CREATE TABLE base (x int); CREATE TABLE heir (y int) INHERITS (base); INSERT INTO heir VALUES (1, 2);
    CREATE TABLE t."same" (a int); CREATE TABLE "same" (a int); INSERT INTO t."same" VALUES (7);
"#;

fn chosen(backup: &Backup, database: &str, schemas: &[&str], tables: &[&str]) -> NewRestore {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NewRestore {
        schemas: owned(schemas),
        tables: owned(tables),
        compare: true,
        ..to(backup, database.to_owned())
    }
}

async fn shop(world: &World) -> (postgres::Database, Datasource, Backup) {
    let shop = postgres::Database::new(SHOP).await;
    let source = postgres::declared(world, shop.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    (shop, source, backup)
}

#[tokio::test]
async fn tables_come_with_what_they_need() {
    let world = World::sqlite().await;
    let (shop, _, backup) = shop(&world).await;
    // What is chosen, and how `pg_dump` calls it.
    for (tables, dumped) in [
        (&["s.c"][..], &["--table=s.c"][..]),
        (&["s.c", "public.o x"], &["--table=s.c", "--table=public.\"o x\""]),
        (&["o x", "t.u", "c"], &["--table=s.c", "--table=public.\"o x\"", "--table=t.u"]),
        (&["parted"], &["--table=parted", "--table=parted_1", "--table=t.parted_2*"]),
        (&["base", "heir"], &["--table=base", "--table=heir"]),
        (&["t.same"], &["--table=t.same"]),
    ] {
        let new = postgres::Database::unused();
        postgres::restored(&world, &backup, chosen(&backup, &new.name, &[], tables)).await;
        assert_eq!(new.dump_of(dumped).await, shop.dump_of(dumped).await, "{tables:?}");
        new.drop().await;
    }
    // A part of a partitioned table, and an heir without its parent's rows.
    let new = postgres::Database::unused();
    postgres::restored(&world, &backup, chosen(&backup, &new.name, &[], &["parted_1", "heir"])).await;
    let client = new.connect().await;
    for (sql, rows) in
        [("SELECT a FROM parted", 10), ("SELECT x FROM base", 1), ("SELECT x FROM ONLY base", 0)]
    {
        assert_eq!(client.query(sql, &[]).await.unwrap().len(), rows, "{sql}");
    }
    drop(client);
    new.drop().await;
    shop.drop().await;
}

#[tokio::test]
async fn what_needs_something_else_is_left_out_and_told() {
    let world = World::sqlite().await;
    let (shop, _, backup) = shop(&world).await;
    let new = postgres::Database::unused();
    let run =
        restore_start(&world.plane, &world.ctx, chosen(&backup, &new.name, &["s"], &["t.u"])).await.unwrap();
    let id = run.uuid;
    assert_eq!(world.ended(run).await.1, "");
    let told = mysql::log(&world, id).await;
    assert_eq!(told.iter().filter(|line| line.starts_with("left out: ")).count(), 1, "{told:?}");
    assert!(told.iter().any(|line| line.contains("fk constraint t u u_id_fkey")), "{told:?}");
    let in_schema =
        |dump: Vec<String>| dump.into_iter().filter(|line| !line.contains("u_id_fkey")).collect::<Vec<_>>();
    let dumped = ["--schema=s"];
    assert_eq!(in_schema(new.dump_of(&dumped).await), in_schema(shop.dump_of(&dumped).await));
    let client = new.connect().await;
    assert_eq!(client.query("SELECT n FROM s.k WHERE n = 500", &[]).await.unwrap().len(), 1);
    assert_eq!(client.query("SELECT note FROM s.w", &[]).await.unwrap().len(), 1);
    drop(client);
    new.drop().await;
    // The view that needs a table of another schema.
    let run =
        restore_start(&world.plane, &world.ctx, chosen(&backup, &new_name(), &["s"], &[])).await.unwrap();
    let id = run.uuid;
    assert_eq!(world.ended(run).await.1, "");
    let told = mysql::log(&world, id).await;
    assert!(told.iter().any(|line| line.contains("left out: view s w")), "{told:?}");
    shop.drop().await;
}

fn new_name() -> String {
    postgres::Database::unused().name
}

#[tokio::test]
async fn unknown_names_are_refused_before_anything_is_made() {
    let world = World::sqlite().await;
    let (shop, _, backup) = shop(&world).await;
    let planned = async |new: NewRestore| restore_plan(&world.plane, &world.ctx, new).await;
    let error =
        planned(chosen(&backup, "x", &["none", "s"], &["s.d", "u", "same", "s.v"])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    let fields: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["schemas.0", "tables.0", "tables.2", "tables.3"]);
    let many = vec!["x"; 1_001];
    let error = planned(chosen(&backup, "x", &[], &many)).await.unwrap_err();
    assert_eq!(error.faults.len(), 1, "{error:?}");
    let plan = planned(chosen(&backup, "x", &["t"], &["s.c"])).await.unwrap();
    let chosen_of = plan.chosen.unwrap();
    // `c`, `u`, `parted_2a`, `parted_2b` and `same`.
    assert_eq!((chosen_of.tables, chosen_of.rows), (5, 512));
    assert!(chosen_of.bytes > 0 && chosen_of.bytes < u64::try_from(plan.backup.bytes_read).unwrap());
    shop.drop().await;
    let file = world.database(&world.ctx, "file", "CREATE TABLE t (a)").await;
    let backup = world.back_up(&file, DEFAULTS).await;
    let path = world.path("new").to_str().unwrap().to_owned();
    let error = planned(chosen(&backup, &path, &["main"], &["t"])).await.unwrap_err();
    let fields: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["schemas", "tables"]);
}

const CRM: &str = "
    CREATE SEQUENCE numbers START WITH 5;;
    CREATE SEQUENCE unused;;
    CREATE TABLE person (id int PRIMARY KEY DEFAULT (NEXT VALUE FOR numbers), name varchar(50));;
    INSERT INTO person (name) VALUES ('Ada'), ('Grace');;
    CREATE TABLE mail (id int PRIMARY KEY, person int, FOREIGN KEY (person) REFERENCES person (id));;
    INSERT INTO mail VALUES (1, 5);;
    CREATE TRIGGER `after_mail` AFTER INSERT ON `mail` FOR EACH ROW SET @x = ' ON `person` FOR EACH ROW';;
    CREATE TRIGGER `before_person` BEFORE INSERT ON `person` FOR EACH ROW SET NEW.name = UPPER(NEW.name);;
    CREATE VIEW names AS SELECT name FROM person";

#[tokio::test]
async fn tables_of_mariadb_come_with_their_triggers_and_sequences() {
    let world = World::sqlite().await;
    let crm = mysql::Database::new(CRM).await;
    let source = mysql::declared(&world, crm.details()).await;
    let backup = world.back_up(&source, DEFAULTS).await;
    for (table, wanted, triggers) in
        [("person", &["numbers", "person"][..], &["before_person"][..]), ("mail", &["mail"], &["after_mail"])]
    {
        let new = mysql::Database::named(&mysql::unused());
        mysql::restored(&world, &backup, chosen(&backup, &new.name, &[], &[table])).await;
        let made =
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1";
        assert_eq!(new.texts(made).await, wanted);
        let made = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()";
        assert_eq!(new.texts(made).await, triggers);
        let rows = format!("SELECT * FROM {table} ORDER BY 1");
        assert_eq!(new.texts(&rows).await, crm.texts(&rows).await);
        new.drop().await;
    }
    // The whole database, by the name of its schema.
    let new = mysql::Database::named(&mysql::unused());
    mysql::restored(&world, &backup, chosen(&backup, &new.name, &[&crm.name], &[])).await;
    assert_eq!(new.definitions().await, crm.definitions().await);
    new.drop().await;
    crm.drop().await;
}

-- What the objects of a server's node were after a deployment. Nodes of other machines have no rows in this store.

ALTER TABLE promotion_deployment_servers ADD COLUMN to_hash TEXT;

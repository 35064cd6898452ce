-- A subject has an id per key that buyers are hashed with, and each sale has its key: one subject, several ids.

alter table buyers.buyers drop constraint buyers_namespace_subject_key;
create index buyers_by_subject on buyers.buyers (namespace, subject);

-- Notes which subscriptions were deleted: their attempts are orphaned.
--
-- The trigger only inserts, into a table whose one unique key is its identity. So the DELETE or TRUNCATE succeeds at any
-- isolation level, whatever locks others hold. The trigger runs with the rights of the table's owner, because a role that
-- may delete a subscription may have no rights on our tables.
create table subscription_deletion (
    id bigint generated always as identity primary key,
    subscription_id varchar(36),
    deleted_at timestamptz not null
);
create index subscription_deletion_of_subscription on subscription_deletion (subscription_id, id);
comment on table subscription_deletion is 'Subscriptions that were deleted; subscription_id null: all of them, by TRUNCATE.';

select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
create function note_deleted_subscriptions() returns trigger language plpgsql security definer
    set search_path from current
    as $$
    begin
        if tg_op = 'TRUNCATE' then
            insert into subscription_deletion (deleted_at) values (billing_now());
        else
            insert into subscription_deletion (subscription_id, deleted_at) select id, billing_now() from deleted;
        end if;
        return null;
    end
    $$;
create trigger note_deleted_subscriptions after delete on subscription
    referencing old table as deleted for each statement execute function note_deleted_subscriptions();
create trigger note_truncated_subscriptions after truncate on subscription
    for each statement execute function note_deleted_subscriptions();

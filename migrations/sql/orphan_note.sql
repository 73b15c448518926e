-- Notes the attempts of subscriptions that are deleted: they are orphaned, and a subscription that is created again under
-- the same id starts clean.
--
-- A note says nothing but which attempt, so rows that are copied together stay true together. No key of the table can
-- refuse a note. The trigger runs with its owner's rights, because a role that may delete a subscription may have no
-- rights on our tables.
create table orphan_note (
    attempt_id uuid not null
);
create index orphan_note_of_attempt on orphan_note (attempt_id);
comment on table orphan_note is 'The attempts whose subscription was deleted.';
-- A table without a key needs this to publish its deletions to a logical replica.
alter table orphan_note replica identity full;

create function note_orphans() returns trigger language plpgsql
    security definer
    set search_path from current
    set lock_timeout = '300ms'
    set enable_seqscan = off
    as $$
    begin
        if tg_relid <> 'subscription'::regclass then
            raise exception 'note_orphans() is the trigger function of subscription' using errcode = 'insufficient_privilege';
        end if;
        if tg_op = 'TRUNCATE' then
            insert into orphan_note
            select id from charge_attempt
            where not exists (select from orphan_note where attempt_id = charge_attempt.id);
        else
            insert into orphan_note
            select charge_attempt.id from deleted join charge_attempt on subscription_id = deleted.id
            where not exists (select from orphan_note where attempt_id = charge_attempt.id);
        end if;
        return null;
    exception
        -- Somebody holds the whole ledger locked. The deletion must succeed, and an attempt that is not noted keeps its
        -- month, which is the safe side.
        when lock_not_available then
            raise warning 'the ledger is locked: the charges of the deleted subscriptions keep their months';
            return null;
    end
    $$;
create trigger note_deleted_subscriptions after delete on subscription
    referencing old table as deleted for each statement execute function note_orphans();
create trigger note_truncated_subscriptions after truncate on subscription
    for each statement execute function note_orphans();

-- Without the attempts, the notes mean nothing. Always, so that a session that copies data does it, too.
create function forget_orphans() returns trigger language plpgsql
    security definer
    set search_path from current
    set enable_seqscan = off
    as $$
    begin
        if tg_relid <> 'charge_attempt'::regclass then
            raise exception 'forget_orphans() is the trigger function of charge_attempt' using errcode = 'insufficient_privilege';
        end if;
        if tg_op = 'TRUNCATE' then
            delete from orphan_note;
        else
            delete from orphan_note using deleted where attempt_id = deleted.id;
        end if;
        return null;
    end
    $$;
create trigger forget_deleted_attempts after delete on charge_attempt
    referencing old table as deleted for each statement execute function forget_orphans();
create trigger forget_truncated_attempts after truncate on charge_attempt
    for each statement execute function forget_orphans();
alter table charge_attempt enable always trigger forget_deleted_attempts;
alter table charge_attempt enable always trigger forget_truncated_attempts;

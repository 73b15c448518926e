-- The ids of the entries of one change. They share the caller's first 24 characters, so by bytes they are in the order of
-- their numbers: 0 is the change, 1 is its automatic return, others are corrections. A later change can tell them apart,
-- and nobody else sees a difference. The first seven digits are repeated, inverted, so that no id of others is taken for
-- one of these.
create function status_entry_id(change_id varchar, is_skip boolean, number integer) returns varchar
    language sql immutable
    return left(change_id, 24) || translate(left(change_id, 7), '0123456789abcdef', 'fedcba9876543210')
        || case when is_skip then '1' else '0' end || lpad(to_hex(number), 4, '0');

-- The last five digits of such an id; null for others.
create function status_entry_number(id varchar) returns varchar language sql immutable
    return case
        when length(id) = 36 and substr(id, 25, 7) = translate(left(id, 7), '0123456789abcdef', 'fedcba9876543210')
        then right(id, 5)
    end;

-- The pause of a skipped month.
create function is_skip(id varchar) returns boolean language sql immutable
    return coalesce(status_entry_number(id) = '10000', false);

-- An entry that keeps the definition of status in line with what the customer means. It is part of another change.
create function is_correction(id varchar) returns boolean language sql immutable
    return coalesce(right(status_entry_number(id), 4) > '0001', false);

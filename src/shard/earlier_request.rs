//! Finding whether a request was done before, by the id that its records have.
//!
//! Each write asks that. Questions that come while Postgres answers others wait for that, and then
//! are one statement.

use super::error::ShardError;
use super::owner::parse_item_record;
use super::shared_calls::{PriorRequest, Question};
use super::store::{Store, from_sql};
use crate::seal::{OwnerKey, Record, RequestHash};
use tokio::time::timeout;
use tracing::warn;

impl Store {
    /// Returns what is known here about a request with this id.
    pub async fn earlier_request(
        &self,
        owner: &OwnerKey,
        request_id: &RequestHash,
        bucket: &str,
    ) -> PriorRequest {
        let (store, bucket) = (self.clone(), bucket.to_owned());
        let answered = self
            .calls
            .earlier_requests
            .ask((*owner, *request_id), move |questions| {
                let (store, bucket) = (store.clone(), bucket.clone());
                async move { store.answer_questions(&questions, &bucket).await }
            });

        // The wait for others is a part of the call.
        match timeout(self.call_limit(), answered).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => PriorRequest::Unknown,
        }
    }

    async fn answer_questions(&self, questions: &[Question], bucket: &str) -> Vec<PriorRequest> {
        let found = self.find_requests(questions, bucket).await;

        found.unwrap_or_else(|error| {
            warn!(
                %error,
                requests = questions.len(),
                "cannot look for earlier requests in Postgres: asking the truth"
            );
            Vec::new()
        })
    }

    /// Returns the answer to each question, all from one moment.
    async fn find_requests(
        &self,
        questions: &[Question],
        bucket: &str,
    ) -> Result<Vec<PriorRequest>, ShardError> {
        let bytes = |(owner, id): &Question| (owner.as_bytes().to_vec(), id.as_bytes().to_vec());
        let (owners, request_ids): (Vec<_>, Vec<_>) = questions.iter().map(bytes).unzip();

        self.within_call_limit(async {
            let rows = sqlx::query!(
                r#"
                select q.number as "number!", o.history_complete and o.complete_to is not null as "known!",
                       c.sequence as "cursor!", v.item_key as "item_key?", v.version as "version?",
                       v.sealed as "sealed?", (extract(epoch from v.updated_at) * 1000)::bigint as updated_at_ms
                from unnest($1::bytea[], $2::bytea[]) with ordinality as q (owner_key, request_id, number)
                join owner o on o.owner_key = q.owner_key
                join cursor c on c.bucket = $3
                left join lateral (
                    select item_key, version, sealed, updated_at from item_version
                    where owner_key = q.owner_key and request_id = q.request_id
                    -- Not in the order of an index: that would read all of the owner's versions.
                    order by version + 0 desc limit 1
                ) v on true
                "#,
                &owners,
                &request_ids,
                bucket,
            )
            .fetch_all(&self.pool())
            .await?;

            let mut found: Vec<_> = questions.iter().map(|_| PriorRequest::Unknown).collect();
            for row in rows {
                // The numbers begin with one.
                let at = usize::try_from(row.number - 1).unwrap_or(usize::MAX);
                let Some(answer) = found.get_mut(at) else { continue };
                *answer = match (row.item_key, row.version, row.sealed) {
                    (Some(item), Some(version), Some(sealed)) => {
                        answer_of(parse_item_record(&item, version, row.updated_at_ms, sealed))
                    }
                    _ if row.known => PriorRequest::NotUpTo(from_sql(row.cursor)),
                    _ => PriorRequest::Unknown,
                };
            }

            Ok(found)
        })
        .await
    }
}

/// The answer that a row gives. One that was damaged here leaves the others their answers.
fn answer_of(record: Result<Record, ShardError>) -> PriorRequest {
    record.map_or_else(
        |error| {
            warn!(%error, "cannot read the record of an earlier request: asking the truth");
            PriorRequest::Unknown
        },
        |record| PriorRequest::Found(Box::new(record)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_row_is_no_answer() {
        assert!(matches!(
            answer_of(parse_item_record(&[1; 16], 1, None, vec![0; 9])),
            PriorRequest::Unknown
        ));
        assert!(matches!(
            answer_of(parse_item_record(&[1; 3], 1, None, Vec::new())),
            PriorRequest::Unknown
        ));
    }
}

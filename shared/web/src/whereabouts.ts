/** Saved on the phone, at the station, in the cloud, needs review: never farther than the other side has confirmed. */
import { useEffect, useState } from "preact/hooks";
import { all } from "./api";
import { boot, isField } from "./boot";
import { health, use } from "./state";
import { t } from "./strings";

interface Row { id: string; updated_at: string }

/** Return what says where a row is. A station's word for the cloud is the cloud's receipt, newer than the row. */
export function useWhereabouts(): (row: Row) => string {
  const cloud = use(health)?.cloud ?? null;
  const [review, setReview] = useState<Set<string>>(new Set());
  useEffect(() => {
    if (isField) void all<{ row_id: string }>("/api/v1/conflicts/?status=open").then((rows) => setReview(new Set(rows.map((each) => each.row_id))), () => {});
  }, []);
  const isConfirmed = (row: Row) => {
    if (!cloud?.station_id || !cloud.last_receipt_at || Date.parse(cloud.last_receipt_at) < Date.parse(row.updated_at)) return false;
    const waiting = cloud.waiting.records;
    if (!waiting || waiting.items === 0) return true;
    return waiting.oldest_at !== null && Date.parse(waiting.oldest_at) > Date.parse(row.updated_at);
  };
  return (row) => t(review.has(row.id) ? "sync.review" : boot.home === "cloud" || isConfirmed(row) ? "sync.cloud" : "sync.station");
}

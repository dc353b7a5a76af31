// A model for each table, made from the schema: plain properties under the names of the columns.
import { Model } from "@nozbe/watermelondb";
import { COLUMNS } from "./schema.ts";

function modelOf(table: string): typeof Model {
  class Row extends Model {
    static override table = table;
  }
  for (const { name } of COLUMNS[table] ?? []) {
    Object.defineProperty(Row.prototype, name, {
      get(this: Model) {
        return this._getRaw(name);
      },
      set(this: Model, value: never) {
        this._setRaw(name, value);
      },
    });
  }
  return Row;
}

export const modelClasses = Object.keys(COLUMNS).map(modelOf);

#include "tables/read.hpp"

#include <algorithm>
#include <memory>

#include "tables/reader.hpp"

namespace pythonx {
namespace {

// Rows between two looks at whether anybody waits for the result.
constexpr std::int64_t rows_between_looks = 1 << 16;

// Calls `visit(batch, from, to, row)` for the parts of batches that lie in the rows [offset, offset + length), the last one
// first, `row` being the number of the first of them. Stops when it returns false.
template <typename Visit>
void visit_batches(const Table& table, std::int64_t offset, std::int64_t length, Visit visit) {
  std::int64_t end = table.rows;
  for (std::size_t batch = table.batches.size(); batch-- > 0;) {
    const std::int64_t start = end - table.batches[batch];
    const std::int64_t first = std::max(start, offset);
    for (std::int64_t last = std::min(end, offset + length); last > first;) {
      const std::int64_t from = std::max(first, last - rows_between_looks);
      if (!visit(batch, from - start, last - start, from)) return;
      last = from;
    }
    end = start;
  }
}

}  // namespace

Term read_column(ErlNifEnv* env, const Table& table, std::size_t index, std::int64_t offset,
                 std::int64_t length, const ReadOptions& options, ReadFailure* failure) {
  const Column& column = table.columns[index];
  Term list = enif_make_list(env, 0);
  std::unique_ptr<Reader> reader;
  std::size_t current = table.batches.size();
  visit_batches(
      table, offset, length, [&](std::size_t batch, std::int64_t from, std::int64_t to, std::int64_t row) {
        const Chunk& chunk = column.chunks[batch];
        if (batch != current)
          reader = std::make_unique<Reader>(env, *column.type, *chunk.array, options, &failure->text);
        current = batch;
        std::int64_t failed = 0;
        list = reader->list(chunk.offset + from, chunk.offset + to, list, &failed);
        if (list == 0) *failure = {index, row + failed - chunk.offset - from, failure->text};
        return list != 0 && enif_is_current_process_alive(env);
      });
  return list;
}

namespace {

// Reads the rows of a batch as maps.
class RowReader {
 public:
  RowReader(ErlNifEnv* env, const Table& table, std::size_t batch, const ReadOptions& options,
            ReadFailure* failure)
      : env_(env), failure_(failure) {
    for (const Column& column : table.columns) {
      const Chunk& chunk = column.chunks[batch];
      readers_.emplace_back(env, *column.type, *chunk.array, options, &failure->text);
      offsets_.push_back(chunk.offset);
      names_.push_back(make_binary(env, column.type->name));
    }
    values_.resize(names_.size());
  }

  // 0 with the column of the failure set.
  Term row(std::int64_t i) {
    for (std::size_t n = 0; n < readers_.size(); ++n) {
      values_[n] = readers_[n].value(offsets_[n] + i);
      if (values_[n] != 0) continue;
      failure_->column = n;
      return 0;
    }
    Term map;
    make_distinct_map(env_, names_.data(), values_.data(), values_.size(),
                      &map);  // The names are known to differ.
    return map;
  }

 private:
  ErlNifEnv* env_;
  ReadFailure* failure_;
  std::vector<Reader> readers_;
  std::vector<std::int64_t> offsets_;
  std::vector<Term> names_;
  std::vector<Term> values_;
};

}  // namespace

Term read_rows(ErlNifEnv* env, const Table& table, std::int64_t offset, std::int64_t length,
               const ReadOptions& options, ReadFailure* failure) {
  Term list = enif_make_list(env, 0);
  std::unique_ptr<RowReader> reader;
  std::size_t current = table.batches.size();
  visit_batches(table, offset, length,
                [&](std::size_t batch, std::int64_t from, std::int64_t to, std::int64_t row) {
                  if (batch != current)
                    reader = std::make_unique<RowReader>(env, table, batch, options, failure);
                  current = batch;
                  for (std::int64_t i = to; i-- > from && list != 0;) {
                    const Term map = reader->row(i);
                    if (map == 0) failure->row = row + i - from;
                    list = map == 0 ? 0 : enif_make_list_cell(env, map, list);
                  }
                  return list != 0 && enif_is_current_process_alive(env);
                });
  return list;
}

}  // namespace pythonx

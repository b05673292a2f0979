/** @file The way from page to page of a long list. */

/** Nothing where there is one page. */
export function Pager({ at, pages, go }: { at: number; pages: number; go: (page: number) => void }) {
  if (pages <= 1) return null;
  return (
    <div class="row pager">
      <button type="button" disabled={at === 0} onClick={() => go(at - 1)}>
        Previous
      </button>
      <span class="num faint">
        page {at + 1} of {pages}
      </span>
      <button type="button" disabled={at >= pages - 1} onClick={() => go(at + 1)}>
        Next
      </button>
    </div>
  );
}

// The address is the view: #/host/web1?range=6h. It can be passed on, and holds no token.

export interface Route {path: string[]; params: URLSearchParams}

export function current(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?")
  return {path: path.split("/").filter(p => p !== "").map(decode), params: new URLSearchParams(query)}
}

function decode(p: string): string {
  try {
    return decodeURIComponent(p)
  } catch {
    return p
  }
}

export function href(path: string[], params: Record<string, string | undefined> | URLSearchParams = {}): string {
  const q = params instanceof URLSearchParams ? params : new URLSearchParams(Object.entries(params).filter((e): e is [string, string] => e[1] !== undefined && e[1] !== ""))
  const text = q.toString()
  return "#/" + path.map(encodeURIComponent).join("/") + (text ? "?" + text : "")
}

export function go(path: string[], params: Record<string, string | undefined> | URLSearchParams = {}): void {
  location.hash = href(path, params)
}

// replace changes the address without another view, and without an entry in the history.
export function replace(path: string[], params: URLSearchParams): void {
  history.replaceState(null, "", href(path, params))
}

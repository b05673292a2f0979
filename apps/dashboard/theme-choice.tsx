/** @file Light, dark, or as the system has it. */
import { useEffect } from "preact/hooks";
import { setState, useStore } from "./store.ts";

/** The style sheet follows the system unless the page says otherwise. */
export function applyTheme(theme: "auto" | "light" | "dark"): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function Theme() {
  const theme = useStore((s) => s.theme);
  useEffect(() => applyTheme(theme), [theme]);
  return (
    <label class="theme">
      <span class="visually-hidden">Colours</span>
      <select
        value={theme}
        onChange={(e) => {
          const chosen = e.currentTarget.value as typeof theme;
          applyTheme(chosen);
          setState({ theme: chosen });
        }}
      >
        <option value="auto">Auto</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>
  );
}

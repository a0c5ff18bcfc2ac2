// Light or dark, before anything is drawn; a classic script, so that no other colour flashes up.
//
// `vestibuleTheme(choice)` changes it ("system", "light", "dark") and keeps the choice; without an
// argument it tells the choice.

(() => {
  const KEY = "vestibule.theme";
  const CHOICES = ["system", "light", "dark"];
  const root = document.documentElement;

  function stored() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "system";
    } catch {
      return "system";
    }
  }

  function apply(choice) {
    if (choice === "system") delete root.dataset.theme;
    else root.dataset.theme = choice;
  }

  let chosen = stored();
  apply(chosen);

  window.vestibuleTheme = (choice) => {
    if (!CHOICES.includes(choice)) return chosen;
    chosen = choice;
    apply(choice);
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    return chosen;
  };
})();

// A link from elsewhere comes without the cookie (SameSite=Strict), also in a browser that is signed in: ask again.
export async function startSignIn() {
  const next = document.body.dataset.next;
  if (!next || document.querySelector("[role=alert]:not([hidden])")) return;
  const response = await fetch(location.href, { redirect: "manual" }).catch(() => null); // who leaves the page ends it
  if (response?.type === "opaqueredirect") location.replace(next);
}

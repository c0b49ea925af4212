// Categories by verdict, as categories.json has them for older generators. The label is set by harness/reports/allure.py.
const by = (name, verdict) => ({ name, matchers: [{ labels: { verdict } }] });

export default {
  name: "sysext-harness",
  categories: {
    rules: [
      by("Product failures", "product-failure"),
      by("Environment failures", "environment-failure"),
      by("Harness errors", "harness-error"),
      by("Known issues", "known-issue"),
      by("Flaky: failed before, passed now", "flaky"),
    ],
  },
};
